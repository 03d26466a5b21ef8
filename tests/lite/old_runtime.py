"""Runs MindIR files in MindSpore 2.0.0, or in MindSpore Lite 2.0.0 after its converter.

A script of Python 3.7, for which these were built: ``old_runtime.py FOLDER START JUDGE``. It takes
the files that ``FOLDER/jobs`` lists from number START on, prints each number before it begins, and
leaves ``<name>.out.npz`` or ``<name>.error``.
"""

import json
import os
import signal
import sys
from collections import OrderedDict

import numpy as np

AT_ONCE = 300  # files a process: what a runtime compiled it keeps
MOST_SECONDS = 120  # for one file, then the process ends

os.environ["GLOG_v"] = "4"  # noqa: SIM112 - so MindSpore calls it


def mindspore_results(path, arrays):
    """What ``nn.GraphCell`` gives."""
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    net = ms.nn.GraphCell(ms.load(path))
    result = net(*[ms.Tensor(array) for array in arrays.values()])
    results = result if isinstance(result, (tuple, list)) else (result,)
    return [each.asnumpy() for each in results]


def lite_results(path, arrays):
    """What the model gives that the converter makes."""
    import mindspore_lite as lite

    converter = lite.Converter()
    converter.save_type = lite.ModelType.MINDIR_LITE
    converter.input_format = lite.Format.NCHW  # as it is; else inputs of four axes are turned
    converter.input_data_type = lite.DataType.UNKNOWN  # as it is
    converter.output_data_type = lite.DataType.UNKNOWN
    converter.convert(lite.FmkType.MINDIR, path, path[: -len(".mindir")])
    model = lite.Model()
    context = lite.Context()
    context.cpu.thread_num = 1
    model.build_from_file(path[: -len("mindir")] + "ms", lite.ModelType.MINDIR_LITE, context)
    inputs = model.get_inputs()  # without those that nothing uses
    for tensor in inputs:
        array = arrays[tensor.name]
        if list(tensor.shape) != list(array.shape):
            raise RuntimeError(f"the input {tensor.name} has shape {tensor.shape}")
        tensor.set_data_from_numpy(array)
    return [each.get_data_to_numpy() for each in model.predict(inputs)]


JUDGES = {"mindspore": mindspore_results, "lite": lite_results}


def main(folder, start, judge):
    """Run the files from number ``start`` on; the exit status 75 asks to be called again."""
    with open(os.path.join(folder, "jobs")) as file:
        names = file.read().split("\n")
    with open(os.path.join(folder, "inputs.json")) as file:
        given = json.load(file)  # the names of each file's inputs
    for number in range(start, len(names)):
        print(number, flush=True)
        if number == start + AT_ONCE:
            sys.exit(75)
        signal.alarm(MOST_SECONDS)
        path = os.path.join(folder, names[number])
        with np.load(path + ".in.npz") as held:
            inputs = enumerate(given[names[number]])
            arrays = OrderedDict((name, held[f"arr_{i}"]) for i, name in inputs)
        try:
            np.savez(path + ".out.npz", *JUDGES[judge](path + ".mindir", arrays))
        except Exception as error:  # whatever it is, the next file has its turn
            with open(path + ".error", "w") as file:
                file.write(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
