"""Cells of ``mindspore.nn``, each with inputs; this module does not import MindSpore."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Maker: TypeAlias = Callable[[Any], Any]
"""Makes a cell from the module ``mindspore.nn``."""

Made: TypeAlias = tuple[Maker, list[np.ndarray]]


def f(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def share(*shape: int) -> np.ndarray:
    """Numbers between 0 and 1."""
    return np.random.default_rng(7).uniform(0.05, 0.95, shape).astype(np.float32)


def places(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def of_activations() -> dict[str, Made]:
    x = [3 * f(2, 5)]
    makers: dict[str, Maker] = {
        "celu": lambda nn: nn.CELU(1.5),
        "elu": lambda nn: nn.ELU(),
        "fast_gelu": lambda nn: nn.FastGelu(),
        "gelu": lambda nn: nn.GELU(),
        "gelu_exact": lambda nn: nn.GELU(approximate=False),
        "glu": lambda nn: nn.GLU(1),
        "hard_shrink": lambda nn: nn.HShrink(0.6),
        "hard_sigmoid": lambda nn: nn.HSigmoid(),
        "hard_swish": lambda nn: nn.HSwish(),
        "hard_tanh": lambda nn: nn.Hardtanh(-0.5, 2.0),
        "leaky_relu": lambda nn: nn.LeakyReLU(0.3),
        "log_sigmoid": lambda nn: nn.LogSigmoid(),
        "log_softmax": lambda nn: nn.LogSoftmax(),
        "mish": lambda nn: nn.Mish(),
        "relu": lambda nn: nn.ReLU(),
        "relu6": lambda nn: nn.ReLU6(),
        "selu": lambda nn: nn.SeLU(),
        "sigmoid": lambda nn: nn.Sigmoid(),
        "silu": lambda nn: nn.SiLU(),
        "soft_shrink": lambda nn: nn.SoftShrink(),
        "softmax": lambda nn: nn.Softmax(),
        "softmin": lambda nn: nn.Softmin(),
        "softsign": lambda nn: nn.Softsign(),
        "tanh": lambda nn: nn.Tanh(),
        "tanh_shrink": lambda nn: nn.Tanhshrink(),
        "threshold": lambda nn: nn.Threshold(0.1, 20.0),
    }
    few = [f(2, 6)]
    return {name: (make, few if name == "glu" else x) for name, make in makers.items()}


CELLS: dict[str, Made] = {
    **of_activations(),
    "prelu": (lambda nn: nn.PReLU(3), [f(2, 3, 4)]),
    "softmax_2d": (lambda nn: nn.Softmax2d(), [f(1, 3, 2, 2)]),
    "lrn": (lambda nn: nn.LRN(5), [f(1, 6, 3, 3)]),
    # ------------------------------------------------------------------------- basic
    "dense": (lambda nn: nn.Dense(3, 4), [f(2, 5, 3)]),
    "dense_activated": (lambda nn: nn.Dense(3, 4, activation="relu"), [f(2, 3)]),
    "bidense": (lambda nn: nn.BiDense(3, 4, 5), [f(2, 3), f(2, 4)]),
    "dropout": (lambda nn: nn.Dropout(p=0.5), [f(2, 3)]),
    "flatten": (lambda nn: nn.Flatten(), [f(2, 3, 4)]),
    "unflatten": (lambda nn: nn.Unflatten(1, (2, 3)), [f(2, 6)]),
    "one_hot": (lambda nn: nn.OneHot(depth=4), [places(1, 3, 0)]),
    "pad": (lambda nn: nn.Pad(((1, 2), (0, 1))), [f(2, 3)]),
    "pad_reflect": (lambda nn: nn.Pad(((1, 1), (1, 1)), "REFLECT"), [f(3, 3)]),
    "clip_by_norm": (lambda nn: nn.ClipByNorm(), [3 * f(2, 3), np.array(1.5, np.float32)]),
    "l1_regularizer": (lambda nn: nn.L1Regularizer(0.3), [f(2, 3)]),
    "upsample": (lambda nn: nn.Upsample(size=(6, 6), mode="nearest"), [f(1, 1, 3, 3)]),
    "upsample_bilinear": (
        lambda nn: nn.Upsample(size=(6, 5), mode="bilinear", align_corners=True), [f(1, 2, 3, 3)]
    ),
    # ------------------------------------------------------------------ convolutions
    "conv": (lambda nn: nn.Conv2d(4, 4, 3, stride=2, group=2), [f(1, 4, 8, 8)]),
    "conv_padded": (
        lambda nn: nn.Conv2d(2, 3, 3, pad_mode="pad", padding=1, has_bias=True), [f(1, 2, 6, 6)]
    ),
    "conv_dilated": (lambda nn: nn.Conv2d(2, 3, 3, dilation=2), [f(1, 2, 8, 8)]),
    "conv_depthwise": (lambda nn: nn.Conv2d(4, 4, 3, group=4), [f(1, 4, 6, 6)]),
    "conv_1d": (lambda nn: nn.Conv1d(3, 4, 3, has_bias=True), [f(2, 3, 7)]),
    "conv_3d": (lambda nn: nn.Conv3d(2, 3, 3), [f(1, 2, 4, 5, 5)]),
    "conv_transpose": (lambda nn: nn.Conv2dTranspose(3, 4, 3, stride=2), [f(1, 3, 5, 5)]),
    "conv_transpose_valid": (
        lambda nn: nn.Conv2dTranspose(3, 2, 3, stride=2, pad_mode="valid"), [f(1, 3, 4, 4)]
    ),
    "conv_transpose_1d": (lambda nn: nn.Conv1dTranspose(3, 4, 3), [f(1, 3, 6)]),
    "conv_bn_act": (
        lambda nn: nn.Conv2dBnAct(2, 3, 3, has_bn=True, activation="relu"), [f(1, 2, 5, 5)]
    ),
    "dense_bn_act": (lambda nn: nn.DenseBnAct(3, 4, has_bn=True, activation="relu"), [f(2, 3)]),
    # ------------------------------------------------------------------------- norms
    "batch_norm": (lambda nn: nn.BatchNorm2d(3), [f(2, 3, 4, 4)]),
    "batch_norm_1d": (lambda nn: nn.BatchNorm1d(3), [f(4, 3)]),
    "batch_norm_3d": (lambda nn: nn.BatchNorm3d(2), [f(1, 2, 3, 3, 3)]),
    "layer_norm": (lambda nn: nn.LayerNorm((4,)), [f(2, 4)]),
    "layer_norm_two_axes": (
        lambda nn: nn.LayerNorm((3, 4), begin_norm_axis=1, begin_params_axis=1), [f(2, 3, 4)]
    ),
    "group_norm": (lambda nn: nn.GroupNorm(2, 4), [f(2, 4, 3, 3)]),
    # ------------------------------------------------------------------------- pools
    "max_pool": (lambda nn: nn.MaxPool2d(3, 2, pad_mode="same"), [f(1, 3, 7, 7)]),
    "max_pool_1d": (lambda nn: nn.MaxPool1d(3, 2), [f(1, 3, 8)]),
    "max_pool_3d": (lambda nn: nn.MaxPool3d(2, 2), [f(1, 2, 4, 4, 4)]),
    "avg_pool": (lambda nn: nn.AvgPool2d(2, 2), [f(1, 3, 8, 8)]),
    "avg_pool_same": (lambda nn: nn.AvgPool2d(3, 2, pad_mode="same"), [f(1, 3, 7, 7)]),
    "avg_pool_1d": (lambda nn: nn.AvgPool1d(2, 2), [f(1, 3, 8)]),
    "avg_pool_3d": (lambda nn: nn.AvgPool3d(2, 2), [f(1, 2, 4, 4, 4)]),
    "adaptive": (lambda nn: nn.AdaptiveAvgPool2d(2), [f(1, 3, 7, 7)]),
    "adaptive_1d": (lambda nn: nn.AdaptiveAvgPool1d(2), [f(1, 3, 6)]),
    "adaptive_3d": (lambda nn: nn.AdaptiveAvgPool3d((2, 2, 3)), [f(1, 2, 4, 5, 6)]),
    "adaptive_max": (lambda nn: nn.AdaptiveMaxPool2d(2), [f(1, 3, 7, 7)]),
    "adaptive_max_1d": (lambda nn: nn.AdaptiveMaxPool1d(2), [f(1, 3, 6)]),
    "lp_pool": (lambda nn: nn.LPPool2d(2, 2, 2), [share(1, 2, 4, 4)]),
    "lp_pool_1d": (lambda nn: nn.LPPool1d(2, 2, 2), [share(1, 2, 6)]),
    # ---------------------------------------------------------------------- paddings
    "padding": (lambda nn: nn.ReflectionPad2d(1), [f(1, 1, 3, 3)]),
    "reflection_1d": (lambda nn: nn.ReflectionPad1d((1, 2)), [f(1, 1, 5)]),
    "constant_pad": (lambda nn: nn.ConstantPad2d((1, 0, 2, 1), 0.5), [f(1, 1, 3, 3)]),
    "constant_pad_1d": (lambda nn: nn.ConstantPad1d(1, 0.5), [f(1, 1, 3)]),
    "zero_pad": (lambda nn: nn.ZeroPad2d((1, 0, 2, 1)), [f(1, 1, 3, 3)]),
    "replication_pad": (lambda nn: nn.ReplicationPad2d(1), [f(1, 1, 3, 3)]),
    "replication_pad_1d": (lambda nn: nn.ReplicationPad1d(1), [f(1, 1, 4)]),
    # ------------------------------------------------------------------------ images
    "pixel_shuffle": (lambda nn: nn.PixelShuffle(2), [f(1, 8, 2, 3)]),
    "pixel_unshuffle": (lambda nn: nn.PixelUnshuffle(2), [f(1, 2, 4, 6)]),
    "channel_shuffle": (lambda nn: nn.ChannelShuffle(2), [f(1, 4, 2, 2)]),
    # -------------------------------------------------------------------- embeddings
    "embedding": (lambda nn: nn.Embedding(9, 4), [np.array([[1, 2], [3, 4]], np.int32)]),
    "embedding_one_hot": (lambda nn: nn.Embedding(9, 4, use_one_hot=True), [places(1, 8, 0)]),
    "embedding_lookup": (lambda nn: nn.EmbeddingLookup(9, 4), [places(1, 8, 0)]),
    # --------------------------------------------------------------------- recurrent
    "lstm": (lambda nn: nn.LSTM(3, 4, batch_first=True), [f(2, 5, 3)]),
    "lstm_two_layers": (lambda nn: nn.LSTM(3, 4, num_layers=2), [f(5, 2, 3)]),
    "lstm_both_directions": (lambda nn: nn.LSTM(3, 4, bidirectional=True), [f(5, 2, 3)]),
    "gru": (lambda nn: nn.GRU(3, 4), [f(5, 2, 3)]),
    "gru_both_directions": (lambda nn: nn.GRU(3, 4, bidirectional=True), [f(5, 2, 3)]),
    "rnn": (lambda nn: nn.RNN(3, 4), [f(5, 2, 3)]),
    "gru_cell": (lambda nn: nn.GRUCell(3, 4), [f(2, 3), f(2, 4)]),
    "rnn_cell": (lambda nn: nn.RNNCell(3, 4), [f(2, 3), f(2, 4)]),
    # ------------------------------------------------------------------ transformers
    "attention": (lambda nn: nn.MultiheadAttention(8, 2), [f(4, 1, 8)] * 3),
    "encoder": (lambda nn: nn.TransformerEncoderLayer(8, 2, 16), [f(4, 1, 8)]),
    "encoder_two_layers": (
        lambda nn: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2), [f(4, 1, 8)]
    ),
    "decoder": (lambda nn: nn.TransformerDecoderLayer(8, 2, 16), [f(4, 1, 8), f(5, 1, 8)]),
    # ------------------------------------------------------------------------ losses
    "loss": (lambda nn: nn.CrossEntropyLoss(), [f(2, 3), places(0, 2)]),
    "l1_loss": (lambda nn: nn.L1Loss(), [f(2, 3), share(2, 3)]),
    "mse_loss": (lambda nn: nn.MSELoss(), [f(2, 3), share(2, 3)]),
    "rmse_loss": (lambda nn: nn.RMSELoss(), [f(2, 3), share(2, 3)]),
    "mae_loss": (lambda nn: nn.MAELoss(), [f(2, 3), share(2, 3)]),
    "smooth_l1_loss": (lambda nn: nn.SmoothL1Loss(), [f(2, 3), share(2, 3)]),
    "huber_loss": (lambda nn: nn.HuberLoss(), [f(2, 3), share(2, 3)]),
    "bce_loss": (lambda nn: nn.BCELoss(), [share(2, 3), share(2, 3)]),
    "bce_with_logits": (lambda nn: nn.BCEWithLogitsLoss(), [f(2, 3), share(2, 3)]),
    "nll_loss": (lambda nn: nn.NLLLoss(), [f(2, 3), places(0, 2)]),
    "kl_loss": (lambda nn: nn.KLDivLoss(), [f(2, 3), share(2, 3)]),
    "softmax_cross_entropy": (
        lambda nn: nn.SoftmaxCrossEntropyWithLogits(sparse=True), [f(2, 3), places(0, 2)]
    ),
    "cosine_loss": (
        lambda nn: nn.CosineEmbeddingLoss(), [f(2, 3), share(2, 3), np.array([1, -1], np.int32)]
    ),
    "margin_ranking_loss": (
        lambda nn: nn.MarginRankingLoss(), [f(4), share(4), np.array([1, -1, 1, 1], np.float32)]
    ),
    "poisson_loss": (lambda nn: nn.PoissonNLLLoss(), [f(2, 3), share(2, 3)]),
    "gaussian_loss": (lambda nn: nn.GaussianNLLLoss(), [f(2, 3), share(2, 3), share(2, 3)]),
    "hinge_embedding_loss": (lambda nn: nn.HingeEmbeddingLoss(), [f(2, 3), np.sign(f(2, 3))]),
    "dice_loss": (lambda nn: nn.DiceLoss(), [share(2, 3), share(2, 3)]),
}  # fmt: skip
