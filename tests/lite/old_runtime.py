"""Runs MindIR files in MindSpore 2.0.0, or in MindSpore Lite 2.0.0 after its converter.

A script of Python 3.7, for which these were built: ``old_runtime.py FOLDER START JUDGE``. It takes
the files that ``FOLDER/jobs`` lists from number START on, prints each number before it begins, and
leaves ``<name>.out.npz`` or ``<name>.error``.
"""

import os
import signal
import sys

import numpy as np

AT_ONCE = 300  # files a process: what a runtime compiled it keeps
MOST_SECONDS = 120  # for one file, then the process ends

os.environ["GLOG_v"] = "4"


def mindspore_results(path, arrays):
    """What ``nn.GraphCell`` gives."""
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    net = ms.nn.GraphCell(ms.load(path))
    result = net(*[ms.Tensor(array) for array in arrays])
    results = result if isinstance(result, (tuple, list)) else (result,)
    return [each.asnumpy() for each in results]


def lite_results(path, arrays):
    """What the model gives that the converter makes."""
    import mindspore_lite as lite

    converter = lite.Converter()
    converter.save_type = lite.ModelType.MINDIR_LITE
    converter.input_format = lite.Format.NCHW  # as it is; else inputs of four axes are turned
    converter.convert(lite.FmkType.MINDIR, path, path[: -len(".mindir")])
    model = lite.Model()
    context = lite.Context()
    context.cpu.thread_num = 1
    model.build_from_file(path[: -len("mindir")] + "ms", lite.ModelType.MINDIR_LITE, context)
    inputs = model.get_inputs()
    if [list(tensor.shape) for tensor in inputs] != [list(array.shape) for array in arrays]:
        raise RuntimeError("the inputs are %s" % [tensor.shape for tensor in inputs])
    for tensor, array in zip(inputs, arrays):
        tensor.set_data_from_numpy(array)
    return [each.get_data_to_numpy() for each in model.predict(inputs)]


JUDGES = {"mindspore": mindspore_results, "lite": lite_results}


def main(folder, start, judge):
    """Run the files from number ``start`` on; the exit status 75 asks to be called again."""
    with open(os.path.join(folder, "jobs")) as file:
        names = file.read().split("\n")
    for number in range(start, len(names)):
        print(number, flush=True)
        if number == start + AT_ONCE:
            sys.exit(75)
        signal.alarm(MOST_SECONDS)
        path = os.path.join(folder, names[number])
        with np.load(path + ".in.npz") as held:
            arrays = [held["arr_%d" % i] for i in range(len(held["bfloat16"]))]
        try:
            np.savez(path + ".out.npz", *JUDGES[judge](path + ".mindir", arrays))
        except Exception as error:  # whatever it is, the next file has its turn
            with open(path + ".error", "w") as file:
                file.write("%s: %s" % (type(error).__name__, error))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
