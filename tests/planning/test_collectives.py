import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from big_ssl.planning.collectives import collectives_of
from big_ssl.train.mesh import make_mesh

DEVICES = 8


CUT = P('data')


def compiled(function, *shapes, out=CUT):
    sharded = jax.shard_map(
        function, mesh=make_mesh(), in_specs=CUT, out_specs=out, check_vma=False
    )
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(sharded).lower(*arguments).compile().as_text()


def found(function, *shapes, **options):
    return collectives_of(compiled(function, *shapes, **options), DEVICES)


def test_an_all_reduce():
    seen = found(lambda x: jax.lax.psum(x, 'data'), (16, 5), out=P())
    assert seen.count == {'all-reduce': 1} and seen.payload == {'all-reduce': 4 * 2 * 5}
    assert seen.sent == 2 * 7 / 8 * 40 and seen.complete


def test_an_all_gather():
    seen = found(lambda x: jax.lax.all_gather(x, 'data', tiled=True), (16, 5), out=P())
    assert seen.count == {'all-gather': 1} and seen.payload == {'all-gather': 4 * 16 * 5}
    assert seen.sent == 7 / 8 * 320


def test_a_reduce_scatter():
    def scatter(x):
        return jax.lax.psum_scatter(x, 'data', tiled=True)

    seen = found(scatter, (8 * 16, 5))
    assert seen.count == {'reduce-scatter': 1} and seen.payload == {'reduce-scatter': 4 * 16 * 5}
    assert seen.sent == 7 / 8 * 320


def test_a_permutation():
    ring = [(i, (i + 1) % DEVICES) for i in range(DEVICES)]
    seen = found(lambda x: jax.lax.ppermute(x, 'data', ring), (16, 5))
    assert seen.count == {'collective-permute': 1} and seen.sent == 4 * 2 * 5


def test_in_loops_within_loops():
    def once(x, _):
        return jax.lax.psum(jnp.sin(x), 'data'), None

    def many(x, _):
        return jax.lax.scan(once, x, None, length=3)[0] + 1, None

    seen = found(lambda x: jax.lax.scan(many, x, None, length=5)[0], (16, 5))
    assert seen.count == {'all-reduce': 15} and seen.payload == {'all-reduce': 15 * 40}
    assert seen.complete


def test_a_loop_of_unknown_length_is_said():
    def more(state):
        return state[1].sum() < 1000

    def once(state):
        return state[0] + 1, jax.lax.psum(jnp.abs(state[1]) + 1, 'data')

    seen = found(lambda x: jax.lax.while_loop(more, once, (0, x))[1], (16, 5))
    assert seen.count == {'all-reduce': 1} and not seen.complete


# Of the compiler for TPUs, shortened: bounds stand in conditions, results are tuples, operations
# start and end, and a fusion calls a computation.
TPU = """
HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%body (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %p = (s32[]{:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %ar.3 = (f32[16]{0:T(128)S(1)}, bf16[64]{0:T(128)}) all-reduce(%x, %y), to_apply=%add
  ROOT %t = (s32[]{:T(128)}, bf16[4,8]{1,0}) tuple(%i, %z)
}

%wide.condition (q: (s32[], bf16[4,8])) -> pred[] {
  %q = (s32[]{:T(128)}, bf16[4,8]{1,0}) parameter(0)
  %constant.7.clone.1 = s32[]{:T(128)} constant(35)
  %counter = s32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%counter, %constant.7.clone.1), direction=LT
}

%fused (r: f32[8]) -> f32[64] {
  %r = f32[8]{0} parameter(0)
  ROOT %all-gather.9 = f32[64]{0:T(128)} all-gather(%r), channel_id=9, dimensions={0}
}

ENTRY %main.42_spmd (param: f32[8]) -> f32[64] {
  %param = f32[8]{0:T(128)} parameter(0)
  %while.1 = (s32[], /*index=1*/bf16[4,8]{1,0}) while(%t), condition=%wide.condition, body=%body
  %all-gather-start.2 = (f32[8]{0}, f32[64]{0}) all-gather-start(%param), dimensions={0}
  %all-gather-done.2 = f32[64]{0} all-gather-done(%all-gather-start.2)
  ROOT %fusion.1 = f32[64]{0:T(128)} fusion(%param), kind=kCustom, calls=%fused
}
"""


def test_the_text_of_the_compiler_for_tpus():
    seen = collectives_of(TPU, DEVICES)
    assert seen.count == {'all-reduce': 35, 'all-gather': 2}
    assert seen.payload == {'all-reduce': 35 * (64 + 128), 'all-gather': 2 * 256}
    assert seen.complete
    np.testing.assert_allclose(seen.sent, 7 / 8 * (2 * 35 * 192 + 512))


def test_a_bound_that_is_no_constant():
    seen = collectives_of(TPU.replace('constant(35)', 'parameter(1)'), DEVICES)
    assert seen.count['all-reduce'] == 1 and not seen.complete


def test_another_text():
    with pytest.raises(ValueError, match='no entry'):
        collectives_of('no program', DEVICES)
