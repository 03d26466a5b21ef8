"""The table: what a training under a policy leaves in its directory."""

from dataclasses import dataclass
from typing import Any

from fnckpt.training.policy import CheckpointPolicy

ALL = "1_1 1_2 1_3 1_4 2_1 2_2 2_3 2_4"


@dataclass(frozen=True)
class Scenario:
    """Two epochs of four steps, one second each, unless it says otherwise.

    Attributes:
      name: what it shows.
      policy: the fields of the policy.
      left: the checkpoints of the last run in the end, as ``<epoch>_<step>``.
      every: the seconds that each step takes; one number for all, or one each.
      dies: global steps before which the process dies; it is started again with ``resume``.
      terminated: global steps in which SIGTERM arrives; started again with ``resume``.
      before: the files that were in the directory; they must be there in the end.
      stem: what the names of the last run begin with.
    """

    name: str
    policy: dict[str, Any]
    left: str
    every: float | tuple[float, ...] = 1.0
    epochs: int = 2
    steps: int = 4
    dies: tuple[int, ...] = ()
    terminated: tuple[int, ...] = ()
    before: str = ""
    prefix: str = "CKP"
    stem: str = "CKP"

    def seconds(self, step: int) -> float:
        """How long global step ``step`` (from 1) takes."""
        return self.every[step - 1] if isinstance(self.every, tuple) else self.every

    def make(self) -> CheckpointPolicy:
        return CheckpointPolicy(**self.policy)


def by_time(seconds: int | None, keep_max: int | None = 5, minutes: int | None = 0) -> dict:
    return {"step": None, "seconds": seconds, "keep_max": keep_max, "keep_per_n_minutes": minutes}


def by_step(step: int, keep_max: int | None = 5, minutes: int | None = 0) -> dict:
    return {"step": step, "keep_max": keep_max, "keep_per_n_minutes": minutes}


STEPS = [
    Scenario("the defaults: every step, five files", {}, "1_4 2_1 2_2 2_3 2_4"),
    Scenario("every step, one file", by_step(1, 1), "2_4"),
    Scenario("every 2nd step", by_step(2), "1_2 1_4 2_2 2_4"),
    Scenario("every 3rd step runs over epochs, the last is saved", by_step(3), "1_3 2_2 2_4"),
    Scenario("once an epoch", by_step(4), "1_4 2_4"),
    Scenario("an interval longer than an epoch", by_step(5), "2_1 2_4"),
    Scenario("the last but one", by_step(7), "2_3 2_4"),
    Scenario("the interval is the run: saved once", by_step(8), "2_4"),
    Scenario("a run shorter than the interval", by_step(9), "2_4"),
    Scenario("a run much shorter than the interval", by_step(10**9), "2_4"),
    Scenario("a run of one step", by_step(1), "1_1", epochs=1, steps=1),
    Scenario("one step, a longer interval", by_step(32), "1_1", epochs=1, steps=1),
    Scenario("one epoch", by_step(4), "1_4", epochs=1),
    Scenario("three epochs", by_step(3), "1_3 2_2 3_1 3_4", epochs=3),
    Scenario("epochs of one step", by_step(2), "2_1 4_1 5_1", epochs=5, steps=1),
    Scenario("step wins over seconds", {"step": 3, "seconds": 1}, "1_3 2_2 2_4"),
    Scenario(
        "step wins over seconds, also in a slow run", {"step": 5, "seconds": 1}, "2_1 2_4", 99
    ),
]

KEEPING = [
    Scenario("keep three of four", by_step(2, 3), "1_4 2_2 2_4"),
    Scenario("keep two of three", by_step(3, 2), "2_2 2_4"),
    Scenario("keep one of three", by_step(3, 1), "2_4"),
    Scenario("keep as many as there are", by_step(1, 8), ALL),
    Scenario("keep more than there are", by_step(1, 100), ALL),
    Scenario("keep_max 0 and no minutes: the newest", by_step(1, 0), "2_4"),
    Scenario("keep_max None and no minutes: the newest", by_step(1, None), "2_4"),
    Scenario("keep_max None, minutes None: the newest", by_step(1, None, None), "2_4"),
    Scenario("keep_max wins over minutes", by_step(1, 2, 1), "2_3 2_4", 30),
    Scenario("one file a minute, and the newest", by_step(1, None, 1), "1_1 1_3 2_1 2_3 2_4", 30),
    Scenario("the same with keep_max 0", by_step(1, 0, 1), "1_1 1_3 2_1 2_3 2_4", 30),
    Scenario("exactly a minute apart: all stay", by_step(1, None, 1), ALL, 60),
    Scenario("less than a minute apart", by_step(1, None, 1), "1_1 1_3 2_1 2_3 2_4", 59),
    Scenario("more than a minute apart: all stay", by_step(1, None, 1), ALL, 61),
    Scenario("one file in two minutes", by_step(1, None, 2), "1_1 1_3 2_1 2_3 2_4", 60),
    Scenario("one file in three minutes", by_step(1, None, 3), "1_1 1_4 2_3 2_4", 60),
    Scenario("a run shorter than n minutes: first and newest", by_step(1, None, 10), "1_1 2_4"),
    Scenario("minutes when the clock stands still", by_step(1, None, 1), "1_1 2_4", 0),
    Scenario("minutes with a coarse interval", by_step(4, None, 1), "1_4 2_4", 30),
    Scenario(
        "minutes over a suspended machine",
        by_step(1, None, 1),
        "1_1 1_3 2_4",
        (1, 1, 9999, 1, 1, 1, 1, 1),
    ),
]

SECONDS = [
    Scenario("more than 2 seconds since the last", by_time(2), "1_3 2_2 2_4"),
    Scenario("step 0 disables steps too", {"step": 0, "seconds": 2}, "1_3 2_2 2_4"),
    Scenario("exactly 1 second is not more than 1", by_time(1), "1_2 1_4 2_2 2_4"),
    Scenario("steps slower than the interval", by_time(1), "1_4 2_1 2_2 2_3 2_4", 2),
    Scenario("a run shorter than the interval saves its last", by_time(100), "2_4"),
    Scenario("a run of exactly the interval", by_time(8), "2_4"),
    Scenario("one second longer than the interval", by_time(7), "2_4"),
    Scenario("saved in step 7, and the last", by_time(6), "2_3 2_4"),
    Scenario("by time, keep one", by_time(2, 1), "2_4"),
    Scenario("by time, keep two", by_time(2, 2), "2_2 2_4"),
    Scenario("by time, keep_max None", by_time(2, None), "2_4"),
    Scenario("by time, one file in two minutes", by_time(59, None, 2), "1_2 2_2 2_4", 30),
    Scenario("by time, keep_max wins over minutes", by_time(59, 1, 2), "2_4", 30),
    Scenario("by time, minutes count from file to file", by_time(60), "1_3 2_2 2_4", 30),
    Scenario("a clock that stands still", by_time(1), "2_4", 0),
    Scenario("a suspended machine saves once", by_time(10), "1_3 2_4", (1, 1, 9999, 1, 1, 1, 1, 1)),
    Scenario(
        "a slow first step (it compiles)", by_time(5), "1_1 2_3 2_4", (60, 1, 1, 1, 1, 1, 1, 1)
    ),
    Scenario("seconds 0: nothing is saved", by_time(0), ""),
    Scenario("both None: nothing is saved", by_time(None), ""),
    Scenario("all None: nothing is saved", by_time(None, None, None), ""),
    Scenario("all 0: nothing is saved", {"step": 0, "keep_max": 0}, ""),
]

RESUMED = [
    Scenario("dies between two saves", by_step(3), "1_3 2_2 2_4", dies=(5,)),
    Scenario("dies before the first save: the run goes on", by_step(3), "1_3 2_2 2_4", dies=(2,)),
    Scenario("dies before the first step", by_step(3), "1_3 2_2 2_4", dies=(1,)),
    Scenario("dies after every step", by_step(1, 2), "2_3 2_4", dies=(2, 3, 4, 5, 6, 7, 8)),
    Scenario("dies twice at one step", by_step(3), "1_3 2_2 2_4", dies=(5, 5)),
    Scenario("dies at the end of an epoch", by_step(4), "1_4 2_4", dies=(5,)),
    Scenario("dies, keep_max counts the earlier files", by_step(2, 2), "2_2 2_4", dies=(5,)),
    Scenario(
        "dies, what minutes kept stays", by_step(1, None, 1), "1_1 1_3 2_1 2_3 2_4", 30, dies=(5,)
    ),
    Scenario("dies, seconds count on from the save", by_time(2), "1_3 2_2 2_4", dies=(5,)),
    Scenario(
        "SIGTERM saves its step, the grid stays", by_step(3), "1_3 2_1 2_2 2_4", terminated=(5,)
    ),
    Scenario("SIGTERM in a step that was just saved", by_step(3), "1_3 2_2 2_4", terminated=(3,)),
    Scenario("SIGTERM, keep_max counts its file", by_step(3, 2), "2_2 2_4", terminated=(5,)),
    Scenario("SIGTERM in the last step", by_step(3), "1_3 2_2 2_4", terminated=(8,)),
    Scenario("SIGTERM, by time: seconds count from it", by_time(2), "1_3 2_1 2_4", terminated=(5,)),
    Scenario("SIGTERM when nothing is saved", by_time(0), "", terminated=(5,)),
]

SHARED = [
    Scenario("run 2", by_step(4), "1_4 2_4", before="CKP-graph.meta CKP-1_4.ckpt", stem="CKP_2"),
    Scenario(
        "files of run 1 are not counted",
        by_step(1, 1),
        "2_4",
        before="CKP-graph.meta CKP-1_1.ckpt CKP-1_2.ckpt CKP-1_3.ckpt",
        stem="CKP_2",
    ),
    Scenario(
        "a graph alone is a run", by_step(4), "1_4 2_4", before="CKP-graph.meta", stem="CKP_2"
    ),
    Scenario("a checkpoint alone is a run", by_step(8), "2_4", before="CKP-9_9.ckpt", stem="CKP_2"),
    Scenario("run 8 after run 7", by_step(8), "2_4", before="CKP_7-graph.meta", stem="CKP_8"),
    Scenario("run 10 after run 9", by_step(8), "2_4", before="CKP_9-1_1.ckpt", stem="CKP_10"),
    Scenario(
        "gaps are not filled",
        by_step(8),
        "2_4",
        before="CKP-graph.meta CKP_3-graph.meta",
        stem="CKP_4",
    ),
    Scenario(
        "files that are nobody's",
        by_step(1, 1),
        "2_4",
        before="CKP-last.ckpt CKP-01_1.ckpt CKP-1_0.ckpt CKP_1-1_1.ckpt CKP_02-1_1.ckpt CKP.ckpt "
        "CKP-1_1.ckpt.bak CKP-1_1.txt xCKP-1_1.ckpt CKP-1_1_1.ckpt CKP-\u0661_1.ckpt ckp-1_1.ckpt",
    ),
    Scenario(
        "a longer prefix is another prefix",
        by_step(1, 1),
        "2_4",
        before="resnet50-graph.meta resnet50-1_1.ckpt resnet-50-1_1.ckpt",
        prefix="resnet",
        stem="resnet",
    ),
    Scenario(
        "a dash in the prefix",
        by_step(1, 1),
        "2_4",
        before="a-1_1.ckpt a-b_2-graph.meta",
        prefix="a-b",
        stem="a-b_3",
    ),
    Scenario(
        "a prefix that looks like a checkpoint",
        by_step(8),
        "2_4",
        before="a-1_2.ckpt",
        prefix="a-1_2",
        stem="a-1_2",
    ),
    Scenario(
        "a prefix that looks like run 2 never takes run 2's names",
        by_step(8),
        "2_4",
        before="CKP-graph.meta CKP_2-graph.meta CKP_2-1_1.ckpt",
        prefix="CKP_2",
        stem="CKP_2_2",
    ),
    Scenario("a prefix of signs", by_step(8), "2_4", prefix="(a|b)[c].*", stem="(a|b)[c].*"),
    Scenario(
        "a dot is a dot", by_step(8), "2_4", before="aXb-graph.meta", prefix="a.b", stem="a.b"
    ),
    Scenario("a prefix in Chinese", by_step(8), "2_4", prefix="模型", stem="模型"),
]

SCENARIOS = STEPS + KEEPING + SECONDS + RESUMED + SHARED
