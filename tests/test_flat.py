"""Our Adam against PyTorch's, and the weights of a model in one buffer."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model.config import TrainConfig
from model.flat import ALIGNMENT, FlatWeights, flatten_weights
from model.optimizing import Adam, clip_gradients, update_average


class Small(nn.Module):
    """Matrices and vectors in turn, of sizes that no vector register divides, and one weight that gets no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(7, 37), nn.LayerNorm(37), nn.Linear(37, 3, bias=False)
        self.unused = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.first(x)).relu())
        return out


def make_small(seed: int = 0) -> Small:
    """The same weights for the same seed."""
    torch.manual_seed(seed)
    return Small()


def backward(model: nn.Module, number: int, used: Callable[[nn.Module, Tensor], Tensor] = lambda model, x: model(x)) -> None:
    """Adds the gradients of step `number`."""
    x = torch.randn(8, 7, generator=torch.Generator().manual_seed(number))
    used(model, x).square().mean().backward()  # type: ignore[no-untyped-call]


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether all weights are equal, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def torch_adam(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """PyTorch's optimizer, with the groups that checkpoints number their weights by."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    weights = list(model.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return kind(groups if config.weight_decay else weights, weight_decay=0.0, fused=True)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_equals_pytorchs_bit_for_bit(kind: str, decay: float) -> None:
    """Weights and state after many steps with changing learning rates, and after each takes over the other's state."""
    config = TrainConfig(optimizer=kind, weight_decay=decay)  # type: ignore[arg-type]
    ours_model, theirs_model = make_small(), make_small()
    ours, theirs = Adam(ours_model, config), torch_adam(theirs_model, config)

    def train(first: int, steps: int) -> None:
        for number in range(first, first + steps):
            backward(ours_model, number)
            backward(theirs_model, number)
            ours.step(1e-2 / (1 + number))
            for group in theirs.param_groups:
                group["lr"] = 1e-2 / (1 + number)
            theirs.step()
            ours.zero_grad()
            theirs.zero_grad()
        assert same_weights(ours_model, theirs_model)

    def same_state() -> bool:
        state = theirs.state_dict()["state"]
        assert ours.state().keys() == state.keys()
        pairs = [(value, state[number][name]) for number, slots in ours.state().items() for name, value in slots.items()]
        return all(torch.equal(value, expected) for value, expected in pairs)

    train(0, 100)
    assert same_state()
    assert len(ours.state()) == 5, "none of the weights without gradients"
    assert all(weight.grad is None for weight in ours_model.parameters())
    before, saved = copy.deepcopy(ours.state()), copy.deepcopy(theirs.state_dict())
    ours, theirs = Adam(ours_model, config), torch_adam(theirs_model, config)
    ours.set_state(saved["state"])
    theirs.load_state_dict({**theirs.state_dict(), "state": before})
    train(100, 20)
    assert same_state()


def used_as_well(model: nn.Module, x: Tensor) -> Tensor:
    """The output, with a gradient for every weight."""
    assert isinstance(model, Small)
    return torch.cat([model(x), model.unused(model(x))], dim=1)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_a_buffer_trains_like_separate_weights(kind: str, decay: float) -> None:
    """Weights, state, clipping and averages are the same up to rounding, by the same numbers; the state moves either way."""
    config = TrainConfig(optimizer=kind, weight_decay=decay)  # type: ignore[arg-type]
    models = make_small(), make_small()
    averages = copy.deepcopy(models[0]).requires_grad_(False), copy.deepcopy(models[1]).requires_grad_(False)
    flat, flat_average = flatten_weights(models[1]), flatten_weights(averages[1])
    tensors = [(list(models[0].parameters()), list(averages[0].parameters())), (list(flat.parts), list(flat_average.parts))]
    optimizers = Adam(models[0], config), Adam(models[1], config, flat)

    def train(first: int, steps: int) -> None:
        for number in range(first, first + steps):
            for model, optimizer, (weights, averaged) in zip(models, optimizers, tensors, strict=True):
                optimizer.zero_grad()
                backward(model, number, used_as_well)
                clip_gradients(weights, 0.1)
                optimizer.step(1e-3)
                update_average(averaged, weights, 0.9)
        for one, other in (models, averages):
            torch.testing.assert_close(one.state_dict(), other.state_dict(), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(optimizers[0].state(), optimizers[1].state(), atol=1e-7, rtol=1e-4)

    train(0, 30)
    assert [len(optimizer.state()) for optimizer in optimizers] == [7, 7]
    gaps = torch.ones_like(flat.values_W, dtype=torch.bool)
    for name, weight in models[1].named_parameters():
        gaps[flat.offsets[name] : flat.offsets[name] + weight.numel()] = False
    assert gaps.any()
    assert not flat.values_W[gaps].any()
    states = copy.deepcopy(optimizers[0].state()), copy.deepcopy(optimizers[1].state())
    optimizers = Adam(models[0], config), Adam(models[1], config, flat)
    optimizers[0].set_state(states[1])
    optimizers[1].set_state(states[0])
    train(30, 10)


def test_a_buffer_holds_the_weights() -> None:
    """Each weight is a view, aligned, matrices first; its values, gradient, names and loading are those of the model."""
    model, plain = make_small(), make_small()
    flat = flatten_weights(model)
    assert same_weights(model, plain)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert flat.values_W.data_ptr() % (4 * ALIGNMENT) == 0
    assert len(flat.parts[0]) + len(flat.parts[1]) == len(flat.values_W)
    for name, weight in model.named_parameters():
        place = slice(flat.offsets[name], flat.offsets[name] + weight.numel())
        assert place.start % ALIGNMENT == 0
        assert weight.data_ptr() == flat.values_W[place].data_ptr()
        assert weight.grad is not None
        assert weight.grad.data_ptr() == flat.gradients_W[place].data_ptr()
        assert (weight.ndim >= 2) == (place.stop <= len(flat.parts[0]))
    model.load_state_dict(make_small(1).state_dict())
    assert torch.equal(flat.parts[0][: 7 * 37].view(37, 7), make_small(1).first.weight)


def test_a_copy_of_a_model_in_a_buffer_trains_apart() -> None:
    """Steps of a deep copy leave the buffer unchanged, and the other way around."""
    model = make_small()
    flat = flatten_weights(model)
    other = copy.deepcopy(model)
    values = flat.values_W.clone()
    optimizer = Adam(other, TrainConfig())
    backward(other, 0)
    optimizer.step(0.1)
    assert torch.equal(flat.values_W, values)
    moved = copy.deepcopy(other)
    backward(model, 0)
    Adam(model, TrainConfig(), flat).step(0.1)
    assert not torch.equal(flat.values_W, values)
    assert same_weights(other, moved)


def test_only_matrices() -> None:
    """A model without vectors has an empty second part, which trains."""
    model = nn.Linear(7, 3, bias=False)
    flat = flatten_weights(model)
    assert len(flat.parts[1]) == 0
    backward(model, 0)
    before = model.weight.detach().clone()
    clip_gradients(list(flat.parts), 1.0)
    Adam(model, TrainConfig(), flat).step(0.1)
    assert (model.weight != before).all()


Change = Callable[[dict[int, dict[str, Tensor]]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "a weight too many": (lambda state: state.update({7: state[0]}), "no weight 7"),
    "another shape": (lambda state: state[0].update(exp_avg=torch.zeros(1)), "exp_avg 0 has another shape"),
    "no squares": (lambda state: state[1].pop("exp_avg_sq"), "exp_avg_sq"),
}


@pytest.mark.parametrize("flatten", [flatten_weights, lambda _: None], ids=["buffer", "separate"])
@pytest.mark.parametrize("case", WRONG)
def test_a_state_that_does_not_fit_is_refused(case: str, flatten: Callable[[nn.Module], FlatWeights | None]) -> None:
    """Instead of being spread over a weight of another shape."""
    change, why = WRONG[case]
    model = make_small()
    optimizer = Adam(model, TrainConfig(), flatten(model))
    backward(model, 0, used_as_well)
    optimizer.step(0.1)
    state = copy.deepcopy(optimizer.state())
    change(state)
    with pytest.raises((KeyError, ValueError), match=why):
        Adam(model, TrainConfig(), flatten(model)).set_state(state)


def test_a_buffer_has_one_step_number() -> None:
    """A state whose weights were updated at different steps does not fit one buffer."""
    model = make_small()
    optimizer = Adam(model, TrainConfig())
    backward(model, 0)
    optimizer.step(0.1)
    backward(model, 0, used_as_well)
    optimizer.step(0.1)
    with pytest.raises(ValueError, match="steps differ"):
        Adam(model, TrainConfig(), flatten_weights(model)).set_state(optimizer.state())
