import jax
import jax.numpy as jnp
import pytest
from jax.profiler import ProfileData

from benchmarks import trace
from benchmarks.trace import Kernel

PROGRAM = """\
HloModule jit_step, is_scheduled=true

%fused_relu (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  %m.1 = f32[8]{0} multiply(%p.1, %p.1), metadata={op_name="jit(step)/jvp(Net)/encoder/bn1/mul"}
  %m.2 = f32[8]{0} add(%m.1, %p.1), metadata={op_name="jit(step)/jvp(Net)/encoder/bn1/add"}
  ROOT %m.3 = f32[8]{0} maximum(%m.2, %p.1), metadata={op_name="jit(step)/jvp(Net)/jit(relu)/max"}
}

%fused_add (p.2: f32[8]) -> f32[8] {
  %p.2 = f32[8]{0} parameter(0)
  ROOT %a.1 = f32[8]{0} add(%p.2, %p.2), metadata={op_name="jit(step)/jvp(Net)/stage1/block1/add"}
}

ENTRY %main.9 (state: f32[8]) -> f32[8] {
  %state = f32[8]{0} parameter(0), metadata={op_name="state.params['conv1']"}
  %c.1 = (f32[8]{0}, u8[0]{0}) custom-call(%state), custom_call_target="__cudnn$convForward", \
metadata={op_name="jit(step)/transpose(jvp(Net))/encoder/conv_stem/conv_general_dilated"}
  %c.2 = (f32[8]{0}, u8[0]{0}) custom-call(%state), custom_call_target="__cudnn$convForward"
  %fusion.1 = f32[8]{0} fusion(%c.1), kind=kLoop, calls=%fused_relu, \
metadata={op_name="jit(step)/jvp(Net)/jit(relu)/max"}
  %fusion.2 = f32[8]{0} fusion(%c.1), kind=kLoop, calls=%fused_add, \
metadata={op_name="jit(step)/jvp(Net)/stage1/block1/add"}
  %copy.1 = f32[8]{0} copy(%fusion.2)
  %while.1 = f32[8]{0} while(%copy.1), condition=%fused_relu, body=%fused_add, \
metadata={op_name="jit(step)/jvp(loss)/while"}
  ROOT %fusion.3 = f32[8]{0} fusion(%copy.1), kind=kLoop, calls=%fused_add, \
metadata={op_name="jit(step)/optimizer/add"}
}
"""


def event(name: int, start_us: float, us: float, op: int | None) -> str:
    stat = f'stats {{ metadata_id: 1 ref_value: {op} }}' if op else ''
    return (
        f'events {{ metadata_id: {name} offset_ps: {start_us * 1e6:.0f} '
        f'duration_ps: {us * 1e6:.0f} {stat} }}'
    )


OPS = {2: 'c.1', 3: 'fusion.1', 4: 'fusion.3', 5: 'unheard_of'}
NAMES = ' '.join(
    f'stat_metadata {{ key: {k} value {{ id: {k} name: "{name}" }} }}' for k, name in OPS.items()
)
SPACE = f"""
planes {{
  name: "/device:GPU:0"
  lines {{
    name: "Stream #13(Compute)"
    {event(1, 0, 40, 2)} {event(1, 40, 20, 3)} {event(1, 60, 10, 4)} {event(1, 70, 6, 5)}
    {event(1, 80, 4, None)}
  }}
  lines {{ name: "XLA Ops" {event(1, 0, 40, 2)} }}
  event_metadata {{ key: 1 value {{ id: 1 name: "kernel" }} }}
  stat_metadata {{ key: 1 value {{ id: 1 name: "hlo_op" }} }}
  {NAMES}
}}
planes {{ name: "/host:CPU" }}
"""


@pytest.mark.parametrize(
    'name, kind',
    [
        ('jit(step)/jvp(ContrastiveNetwork)/encoder/stage1/block1/conv2/x', 'convolution'),
        ('jit(step)/transpose(jvp(Net))/encoder/stage1/block1/bn_shortcut/mul', 'normalisation'),
        ('jit(step)/jvp(Net)/projection/dense1/dot_general', 'projection'),
        ('jit(step)/jvp(Net)/projection/bn1/mul', 'normalisation'),
        ('jit(step)/jvp(augment)/vmap(vmap(jit(_where)))/select_n', 'augmentation'),
        ('jit(step)/transpose(jvp(loss))/while/body/dot_general', 'loss'),
        ('jit(step)/optimizer/sqrt', 'optimiser'),
        ('jit(step)/jvp(Net)/encoder/reduce_window', 'other'),
        ('', 'unnamed'),
    ],
)
def test_a_name_tells_the_kind(name, kind):
    assert trace.kind_of(name) == kind


def test_instructions_by_what_they_are_made_of():
    kinds = trace.kinds_of(PROGRAM)
    assert kinds['c.1'] == kinds['c.2'] == 'convolution'  # the second has no name
    assert kinds['fusion.1'] == 'normalisation'  # ends in a ReLU, which says nothing
    assert kinds['fusion.2'] == 'other'
    assert kinds['fusion.3'] == 'optimiser'  # its own name counts more than what is fused
    assert kinds['copy.1'] == 'unnamed'
    assert 'while.1' not in kinds


def test_seconds_of_a_profile(tmp_path):
    folder = tmp_path / 'plugins' / 'profile' / 'now'
    folder.mkdir(parents=True)
    (folder / 'vm.xplane.pb').write_bytes(ProfileData.text_proto_to_serialized_xspace(SPACE))
    found = trace.seconds_by_kind(trace.newest(str(tmp_path)), trace.kinds_of(PROGRAM), steps=2)
    assert found == pytest.approx(
        {
            'convolution': 20e-6,
            'normalisation': 10e-6,
            'optimiser': 5e-6,
            'not attributed': 5e-6,  # an instruction that the program lacks, and no instruction
        }
    )
    assert list(found)[0] == 'convolution'


def test_time_within_counts_once():
    """A loop of ten seconds that holds two kernels, one of which holds another."""
    line = [Kernel('b', 1, 3), Kernel('loop', 0, 10), Kernel('c', 5, 4), Kernel('d', 6, 1),
            Kernel('e', 10, 2)]  # fmt: skip
    own = {kernel.instruction: seconds for kernel, seconds in trace.own_seconds(line)}
    assert own == {'loop': 3, 'b': 3, 'c': 3, 'd': 1, 'e': 2}


def test_a_trace_on_this_machine(tmp_path):
    """What JAX writes today is read: scopes, the program's text and the profile's own names."""

    @jax.jit
    def step(x):
        with jax.named_scope('augment'):
            x = jnp.sort(x)
        with jax.named_scope('loss'):
            return (x @ x) / 100

    x = jnp.ones((300, 300))
    compiled = step.lower(x).compile()
    compiled(x).block_until_ready()
    with jax.profiler.trace(str(tmp_path)):
        compiled(x).block_until_ready()
    kinds = trace.kinds_of(compiled.as_text())
    found = trace.seconds_by_kind(trace.newest(str(tmp_path)), kinds, steps=1)
    assert found['augmentation'] > 0 and found['loss'] > 0
    assert found.get('not attributed', 0) < 0.1 * sum(found.values())
