"""The legacy form of what a model says of itself. Source: runtime reference 8."""

from collections.abc import Iterable

from furiosa.runtime._core.describe import Model as CurrentModel
from furiosa.runtime._core.errors import TensorNameNotFound
from furiosa.runtime._legacy.tensor import TensorArray, allocated


class Model(CurrentModel):
    """The current one, with methods that make tensors. All of these are zeros and have memory of their own:
    what `create_` makes differs from what `allocate_` makes in nothing."""

    __slots__ = ()

    @classmethod
    def of(cls, model: CurrentModel) -> "Model":
        return cls(model.inputs(), model.outputs())

    def allocate_inputs(self) -> TensorArray:
        return allocated(self.inputs())

    def create_inputs(self) -> TensorArray:
        return allocated(self.inputs())

    def allocate_outputs(self) -> TensorArray:
        return allocated(self.outputs())

    def create_outputs(self) -> TensorArray:
        return allocated(self.outputs())

    def allocate_tensors(self, names: Iterable[str]) -> TensorArray:
        """Inputs and outputs of these names, in this order. Raises: TensorNameNotFound."""
        named = {desc.name: desc for desc in (*self.outputs(), *self.inputs())}
        try:
            return allocated([named[name] for name in names])
        except KeyError:
            raise TensorNameNotFound from None

    def create_tensors(self, names: Iterable[str]) -> TensorArray:
        """As `allocate_tensors`."""
        return self.allocate_tensors(names)
