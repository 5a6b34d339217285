"""Bytes of cuDNN's and cuBLAS's calls, counted by hand."""

from benchmarks.library_calls import bytes_of_library_calls

PROGRAM = """\
HloModule jit_step, is_scheduled=true

ENTRY %main.9 (x: bf16[2,8,8,4], w: bf16[3,3,4,16]) -> f32[16,16] {
  %x = bf16[2,8,8,4]{3,2,1,0} parameter(0)
  %w = bf16[3,3,4,16]{3,2,1,0} parameter(1)
  %cudnn-conv.1 = (bf16[2,8,8,16]{3,2,1,0}, u8[4096]{0}) custom-call(%x, %w), \
window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward"
  %get-tuple-element.1 = bf16[2,8,8,16]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  %a = f32[16,128]{1,0} fusion(%get-tuple-element.1), kind=kLoop, calls=%fused
  %product = (f32[16,16]{1,0}, s8[1024]{0}) custom-call(f32[16,128]{1,0} %a, f32[16,128]{1,0} %a), \
custom_call_target="__cublas$lt$matmul"
  %other = f32[16]{0} custom-call(%a), custom_call_target="somebody's"
  ROOT %get-tuple-element.2 = f32[16,16]{1,0} get-tuple-element(%product), index=0
}
"""


def test_calls_read_their_operands_and_write_their_result():
    convolution = 2 * (2 * 8 * 8 * 4 + 3 * 3 * 4 * 16 + 2 * 8 * 8 * 16)
    product = 4 * (16 * 128 + 16 * 128 + 16 * 16)
    assert bytes_of_library_calls(PROGRAM) == convolution + product
