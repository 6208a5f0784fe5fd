"""What is checked in a file of Keras before Keras reads it: where it leads, how large it is.

Keras's safe mode refuses Python code. It still builds whatever layers a file asks for, and HDF5
follows links to other files and looks for libraries that might read what it can't.
"""

import math
import os
import zipfile

import h5py

from foundation import documents

# Of the bytes in a file as many may be asked for in memory; Keras itself compresses nothing.
_MOST_GROWTH, _FREE = 4, 1 << 22
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


def check(path: str) -> None:
    """Looks into a `.keras` or `.h5` file; from then on, HDF5 loads no plug-ins in this process.

    Raises:
      ValueError: it is damaged, leads to other files, or its arrays are larger than it is.
    """
    _forget_plugins()
    try:
        (_check_archive if path.endswith(".keras") else _check_weights)(path)
    except ValueError:
        raise
    except Exception as error:  # damaged bytes make the parsers raise anything
        raise ValueError(f"it is damaged: {error}") from error


def _forget_plugins() -> None:
    """Takes from HDF5 the folders of its plug-ins: shared libraries, loaded at a damaged file.

    TensorFlow sets HDF5_PLUGIN_PATH=disable, which HDF5 takes for a folder of that name in the
    working folder.
    """
    while h5py.h5pl.size():
        h5py.h5pl.remove(0)


def _check_weights(path: str) -> None:
    with h5py.File(path, "r") as file:
        _check_hdf5(file, os.path.getsize(path))


def _check_archive(path: str) -> None:
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        _check_size(sum(one.file_size for one in archive.infolist()), size)
        documents.parsed(archive.read(_CONFIG))
        with archive.open(_WEIGHTS) as weights, h5py.File(weights, "r") as file:
            _check_hdf5(file, size)


def _check_hdf5(file: h5py.File, size: int) -> None:
    links: list[tuple[str, object]] = []
    file.visititems_links(lambda name, link: links.append((name, link)))
    declared = 0
    for name, link in links:
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name} is a link to another place")
        if isinstance(one := file[name], h5py.Dataset):
            if one.external or one.is_virtual:
                raise ValueError(f"{name} is kept in another file")
            declared += math.prod(one.shape or ()) * one.dtype.itemsize
    _check_size(declared, size)


def _check_size(declared: int, size: int) -> None:
    if declared > _MOST_GROWTH * size + _FREE:
        raise ValueError(f"{declared:,} bytes of numbers in a file of {size:,}")
