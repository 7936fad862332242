"""A GPU for machines that have none: tensors that say they lie on it, and are computed on the CPU.

Inside `pretended_gpu()` the device "gpu" behaves as a real one does where code goes wrong: an operation on tensors of
both devices is refused, so are `numpy()`, indices on the GPU for a tensor on the CPU, random numbers for the GPU from a
generator of the CPU, and float64, which Apple's GPUs do not have. It registers itself with PyTorch for good, so it
belongs into a process of its own.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "gpu"
MOVES = ("aten::copy_", "aten::_to_copy", "aten::set_")
INDEXES = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index")


class _Module(_DummyBackendModule):
    """`torch.gpu`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


_setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
GPU = torch.device(NAME, 0)


_doubles = False


class Refused(RuntimeError):
    """An operation that a GPU would refuse."""


class OnGpu(Tensor):
    """A tensor that says it lies on the GPU; `inner` has its values."""

    @staticmethod
    def __new__(cls, inner: Tensor):
        options = dict(strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, device=GPU)
        out = Tensor._make_wrapper_subclass(cls, inner.size(), **options)
        out.inner = inner
        return out

    def __repr__(self) -> str:
        return f"OnGpu({self.inner})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


def _compute(func, args, kwargs):
    values, spec = tree_flatten((args, kwargs))
    here = [x for x in values if isinstance(x, OnGpu)]
    there = [x for x in values if isinstance(x, Tensor) and not isinstance(x, OnGpu)]
    name, target = func._schema.name, kwargs.get("device")
    to_gpu = bool(here) if target is None else torch.device(target).type == NAME
    if here and there and name not in MOVES:
        _check(name, args, here, there)
    generator = kwargs.get("generator")
    if to_gpu and generator is not None and generator.device.type == "cpu":
        raise Refused(f"{name} draws numbers on the GPU with a generator of the CPU")
    plain = [x.inner if isinstance(x, OnGpu) else _cpu_for_gpu(x) for x in values]
    given, named = tree_unflatten(plain, spec)
    if named.get("pin_memory"):
        named["pin_memory"] = False
    out = func(*given, **named)
    if name == "aten::_local_scalar_dense":
        return out
    if func._schema.is_mutable:
        known = {id(x.inner): x for x in here}
        return tree_map_only(Tensor, lambda x: known.get(id(x), x), out)
    if not to_gpu:
        return out
    if not _doubles and any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in tree_flatten(out)[0]):
        raise Refused(f"{name} gives float64 on the GPU")
    return tree_map_only(Tensor, OnGpu, out)


def _check(name, args, here, there):
    """Single numbers on the CPU are welcome everywhere; a tensor on the GPU also takes indices from the CPU."""
    if name in INDEXES:
        written = [args[2]] if len(args) > 2 and any(args[2] is x for x in there) and args[2].ndim else []
        wrong = written if isinstance(args[0], OnGpu) else here
    else:
        wrong = [x for x in there if x.ndim]
    if wrong:
        raise Refused(f"{name}: {[list(x.shape) for x in here]} on the GPU, {[list(x.shape) for x in there]} not")


def _cpu_for_gpu(value):
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What goes from Python numbers to tensors or back without the dispatcher."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor):
            device = kwargs.pop("device", None)
            out = func(*args, **kwargs)
            return out if device is None else out.to(device)
        if func is Tensor.new_tensor:
            device = kwargs.pop("device", args[0].device)
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(device)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            key = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(k, list) for k in key):
                args = (args[0], tuple(torch.tensor(k) if isinstance(k, list) else k for k in key), *args[2:])
        if func is Tensor.tolist and isinstance(args[0], OnGpu):
            return args[0].inner.tolist()
        return func(*args, **kwargs)


@contextmanager
def pretended_gpu(doubles: bool = False) -> Iterator[torch.device]:
    """The device, while it is there; also in the threads of a pool. doubles: whether it has float64."""
    global _doubles
    _doubles = doubles
    submit = ThreadPoolExecutor.submit

    def submit_there(pool, function, /, *args, **kwargs):
        def run():
            with _Functions(), _Dispatch():
                return function(*args, **kwargs)

        return submit(pool, run)

    ThreadPoolExecutor.submit = submit_there
    try:
        with _Functions(), _Dispatch():
            yield GPU
    finally:
        ThreadPoolExecutor.submit = submit
