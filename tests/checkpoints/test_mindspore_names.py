"""One network in Flax and in mindspore.nn: parameters go both ways, outputs are the same."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from fnckpt.checkpoints.mindspore_kinds import CONV_TRANSPOSE, Kind
from fnckpt.checkpoints.mindspore_names import from_mindspore, mindspore_names, to_mindspore
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.errors import CheckpointMismatch
from fnckpt.training.loop import train


class Block(nn.Module):
    """A residual block with strides and projection."""

    features: int

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(self.features, (3, 3), 2, padding=1, use_bias=False, name="conv1")(x)
        y = nn.relu(nn.BatchNorm(True, epsilon=1e-5, name="bn1")(y))
        y = nn.Conv(self.features, (3, 3), padding=1, name="conv2")(y)
        y = nn.BatchNorm(True, epsilon=1e-5, name="bn2")(y)
        x = nn.Conv(self.features, (1, 1), 2, padding=0, use_bias=False, name="projection")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), padding=1, name="stem")(x))
        x = Block(6, name="block1")(x)
        x = Block(8, name="block2")(x)
        return nn.Dense(5, name="head")(x.mean((1, 2)))


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 8, name="embed")(tokens)
        y = nn.LayerNorm(epsilon=1e-5, name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(y)
        y = nn.LayerNorm(epsilon=1e-5, name="norm2")(x)
        return x + nn.Dense(8, name="down")(nn.relu(nn.Dense(16, name="up")(y)))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.asarray(nn.RNN(nn.LSTMCell(4, name="lstm"))(x))
        x = jnp.asarray(nn.RNN(nn.GRUCell(5, name="gru"))(x))
        x = nn.Conv(3, (3,), padding=1, name="conv")(x)
        return nn.GroupNorm(1, epsilon=1e-5, name="unused")(x) * 0 + x


class Upsample(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.ConvTranspose(4, (2, 2), (2, 2), padding="VALID", name="up")(x)


IN_MINDSPORE = """
import json, sys
import numpy as np
import mindspore as ms
from mindspore import Tensor, nn, ops

ms.set_context(mode=ms.GRAPH_MODE)  # 2.10 runs single operators only with NumPy 1

class Block(nn.Cell):
    def __init__(self, i, o):
        super().__init__()
        pad = {"pad_mode": "pad", "padding": 1}
        self.conv1 = nn.Conv2d(i, o, 3, 2, **pad)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, has_bias=True, **pad)
        self.bn2 = nn.BatchNorm2d(o)
        self.projection = nn.Conv2d(i, o, 1, 2, pad_mode="valid")
    def construct(self, x):
        y = ops.relu(self.bn1(self.conv1(x)))
        return ops.relu(self.projection(x) + self.bn2(self.conv2(y)))

class ResNet(nn.Cell):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 1, pad_mode="pad", padding=1, has_bias=True)
        self.block1, self.block2, self.head = Block(4, 6), Block(6, 8), nn.Dense(8, 5)
    def construct(self, x):
        x = self.block2(self.block1(ops.relu(self.stem(x.transpose(0, 3, 1, 2)))))
        return self.head(x.mean((2, 3)))

class Attention(nn.Cell):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Dense(8, 8) for _ in range(4))
    def construct(self, x):
        def heads(y):
            return y.reshape(*x.shape[:2], 2, 4).transpose(0, 2, 1, 3)
        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        weights = ops.softmax(ops.matmul(q, k.transpose(0, 1, 3, 2)) / 2.0)
        return self.out(ops.matmul(weights, v).transpose(0, 2, 1, 3).reshape(x.shape))

class Transformer(nn.Cell):
    def __init__(self):
        super().__init__()
        self.embed, self.attention = nn.Embedding(11, 8), Attention()
        self.norm1 = nn.LayerNorm((8,), epsilon=1e-5)
        self.norm2 = nn.LayerNorm((8,), epsilon=1e-5)
        self.up, self.down = nn.Dense(8, 16), nn.Dense(16, 8)
    def construct(self, tokens):
        x = self.embed(tokens)
        x = x + self.attention(self.norm1(x))
        return x + self.down(ops.relu(self.up(self.norm2(x))))

class Recurrent(nn.Cell):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.gru = nn.GRU(4, 5, batch_first=True)
        self.conv = nn.Conv1d(5, 3, 3, pad_mode="pad", padding=1, has_bias=True)
        self.unused = nn.GroupNorm(1, 3)
    def construct(self, x):
        x = self.gru(self.lstm(x)[0])[0]
        return self.conv(x.transpose(0, 2, 1)).transpose(0, 2, 1)

class Upsample(nn.Cell):
    def __init__(self):
        super().__init__()
        self.up = nn.Conv2dTranspose(3, 4, 2, 2, pad_mode="valid", has_bias=True)
    def construct(self, x):
        return self.up(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)

rng = np.random.default_rng(1)
directory = sys.argv[1]
report = {}
for name in sys.argv[2:]:
    x = Tensor(np.load(f"{directory}/{name}.x.npy"))
    net = globals()[name]()
    net.set_train(False)
    missing, extra = ms.load_param_into_net(net, ms.load_checkpoint(f"{directory}/{name}.ckpt"))
    np.save(f"{directory}/{name}.y.npy", net(x).asnumpy())
    for parameter in net.get_parameters():
        value = rng.uniform(0.5, 1.0, parameter.shape).astype(np.float32) - 0.2
        parameter.set_data(Tensor(value))
    ms.save_checkpoint(net, f"{directory}/{name}.theirs.ckpt")
    np.save(f"{directory}/{name}.theirs.y.npy", net(x).asnumpy())
    report[name] = [missing, extra]
print(json.dumps(report))
"""

NETS: dict[str, tuple[nn.Module, np.ndarray, dict[str, Kind]]] = {
    "ResNet": (ResNet(), np.ones((2, 8, 8, 3), np.float32), {}),
    "Transformer": (Transformer(), np.zeros((2, 5), np.int32), {}),
    "Recurrent": (Recurrent(), np.ones((2, 6, 3), np.float32), {}),
    "Upsample": (Upsample(), np.ones((1, 4, 4, 3), np.float32), {"up": CONV_TRANSPOSE}),
}


def randomized(tree):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.3, 0.8, a.shape) - 0.2, a.dtype), tree)


def trained(net, variables, x):
    """The variables after three steps; statistics stay as they are."""

    def step(state, x):
        def loss_of(params):
            return (net.apply(state | {"params": params}, x) ** 2).mean()

        loss, grads = jax.value_and_grad(loss_of)(state["params"])
        params = jax.tree.map(lambda p, g: p - 1e-3 * jnp.sign(g), state["params"], grads)
        return state | {"params": params}, loss

    result = train(step, variables, [x] * 3)
    assert result.history["loss"][-1] < result.history["loss"][0]
    return result.state


@pytest.fixture(scope="module")
def in_mindspore(tmp_path_factory, run_python):
    """Directory, what MindSpore reports, and (variables, input) of each network."""
    directory = tmp_path_factory.mktemp("names")
    rng = np.random.default_rng(2)
    made = {}
    for name, (net, x, kinds) in NETS.items():
        high = 11 if x.dtype == np.int32 else 1
        x = rng.uniform(0, high, x.shape).astype(x.dtype)
        variables = trained(net, randomized(jax.eval_shape(net.init, jax.random.key(0), x)), x)
        np.save(directory / f"{name}.x.npy", x)
        save_checkpoint(to_mindspore(variables, kinds=kinds), directory / f"{name}.ckpt")
        made[name] = (variables, x)
    script = directory / "networks.py"  # MindSpore compiles only what it finds in a file
    script.write_text(IN_MINDSPORE)
    run = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    report = json.loads(run_python(run, script, directory, *NETS).splitlines()[-1])
    return directory, report, made


@pytest.mark.parametrize("name", NETS)
def test_a_network_of_flax_gives_the_same_output_in_mindspore(in_mindspore, name):
    directory, report, made = in_mindspore
    variables, x = made[name]
    assert report[name] == [[], []]  # nothing missing, nothing left over
    expected = np.asarray(jax.jit(NETS[name][0].apply)(variables, x))
    np.testing.assert_allclose(np.load(directory / f"{name}.y.npy"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_network_of_mindspore_gives_the_same_output_in_flax(in_mindspore, name):
    directory, _, made = in_mindspore
    variables, x = made[name]
    arrays = load_checkpoint(directory / f"{name}.theirs.ckpt")
    loaded = from_mindspore(arrays, variables, kinds=NETS[name][2])
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    found = np.asarray(jax.jit(NETS[name][0].apply)(loaded, x))
    expected = np.load(directory / f"{name}.theirs.y.npy")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_there_and_back_keeps_every_bit(name):
    net, x, kinds = NETS[name]
    variables = randomized(jax.eval_shape(net.init, jax.random.key(0), x))
    back = from_mindspore(to_mindspore(variables, kinds=kinds), variables, kinds=kinds)
    for (path, found), (_, expected) in zip(
        jax.tree.leaves_with_path(back), jax.tree.leaves_with_path(variables), strict=True
    ):
        assert found.tobytes() == expected.tobytes(), path


def test_an_nnx_network_has_the_same_names_as_its_linen_twin():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.bn = nnx.BatchNorm(4, rngs=rngs)
            self.head = nnx.Linear(4, 2, rngs=rngs)

    state = nnx.state(Net(nnx.Rngs(0)))
    assert {name: a.shape for name, a in to_mindspore(state).items()} == {
        "bn.beta": (4,),
        "bn.gamma": (4,),
        "bn.moving_mean": (4,),
        "bn.moving_variance": (4,),
        "conv.bias": (4,),
        "conv.weight": (4, 3, 3, 3),
        "head.bias": (2,),
        "head.weight": (2, 4),
    }


def test_rules_rename_and_come_back():
    tree = {"params": {"Conv_0": {"kernel": np.ones((3, 3, 1, 2))}, "own": np.ones(3)}}
    rules = [(r"Conv_(\d)", r"conv\1"), ("^own$", "scale")]
    assert mindspore_names(tree, rules=rules) == {
        "conv0.weight": ["params.Conv_0.kernel"],
        "scale": ["params.own"],
    }
    arrays = to_mindspore(tree, rules=rules)
    back = from_mindspore(arrays | {"moments.conv0.weight": np.ones(1)}, tree, rules=rules)
    assert jax.tree.map(np.shape, back) == jax.tree.map(np.shape, tree)


def test_rules_that_make_names_equal_are_refused():
    tree = {"a": {"kernel": np.ones((2, 2))}, "b": {"kernel": np.ones((2, 2))}}
    with pytest.raises(ValueError, match=r"b: parameters share the name x\.weight; change"):
        to_mindspore(tree, rules=[("^[ab]", "x")])


def test_parameters_that_do_not_fit_are_all_named():
    tree = {"a": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}, "b": {"scale": np.ones(4)}}
    arrays = {"a.weight": np.ones((2, 3)), "b.gamma": np.ones(4, np.float32)}
    with pytest.raises(CheckpointMismatch) as raised:
        from_mindspore(arrays, tree)
    assert str(raised.value) == (
        "the parameters do not fit the tree:\n"
        "  a.weight: expected float64 (3, 2), found float64 (2, 3)\n"
        "  a.bias: missing\n"
        "  b.gamma: expected float64 (4,), found float32 (4,)"
    )


def test_each_parameter_names_the_leaves_that_it_is_made_of_and_no_other():
    tree = {
        "d": {"kernel": np.ones((2, 3)), "bias": np.ones(3)},
        "n": {"scale": np.ones(3), "bias": np.ones(3), "mean": np.ones(3), "var": np.ones(3)},
        "g": {
            f"{side}{gate}": {"kernel": np.ones((2, 2)), "bias": np.ones(2)}
            for side in "ih"
            for gate in "rzn"
        },
    }
    for gate in "rz":
        del tree["g"][f"h{gate}"]["bias"]
    assert mindspore_names(tree) == {
        "d.weight": ["d.kernel"],
        "d.bias": ["d.bias"],
        "n.gamma": ["n.scale"],
        "n.beta": ["n.bias"],
        "n.moving_mean": ["n.mean"],
        "n.moving_variance": ["n.var"],
        "g.weight_ih_l0": ["g.in.kernel", "g.ir.kernel", "g.iz.kernel"],
        "g.weight_hh_l0": ["g.hn.kernel", "g.hr.kernel", "g.hz.kernel"],
        "g.bias_ih_l0": ["g.in.bias", "g.ir.bias", "g.iz.bias"],
        "g.bias_hh_l0": ["g.hn.bias"],
    }


def test_names_that_rules_make_one_are_refused():
    tree = {"a": {"kernel": np.ones((2, 3))}, "b": {"kernel": np.ones((2, 3))}}
    with pytest.raises(ValueError, match=r"b: parameters share the name x\.weight; change the"):
        mindspore_names(tree, rules=[("^[ab]", "x")])
