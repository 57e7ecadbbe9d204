"""Every component and every option that there is, for tests of all of them."""

from flp_tf.registry import REGISTRIES
from flp_tf.runs.sections import ROOTS, places, slots

# Every component of every slot, and what has to be chosen for it to count.
COMPONENTS = [(slot, name) for slot in slots() for name in REGISTRIES[slot]]


def choosing(slot: str, name: str) -> dict[str, str]:
    """Returns the choices under which a component counts."""
    choices = {slot: name}
    while slot not in ROOTS:
        slot, name = next(
            (other, user) for other, user in COMPONENTS if slot in REGISTRIES[other].uses(user) and other != slot
        )
        choices[slot] = name
    return choices


# Every option once for each component that has it: (place, choices under which it counts).
OPTIONS = [
    (place, choosing(place.section, place.component) if place.component else {})
    for of_flag in places().values()
    for place in of_flag
]


def name_of(value: object) -> str | None:
    """Returns the id of a parameter."""
    if isinstance(value, tuple) and hasattr(value, "owner"):
        return f"{value.flag}-{value.component or value.section}"
    return None


def example(place) -> object:
    """Returns a legal value of an option that is not its default."""
    metadata, default = place.field.metadata, place.field.default
    if metadata["legal"] is not None:
        return next((value for value in metadata["legal"] if value != default), default)
    if place.kind is bool:
        return not default
    if place.kind is str:
        return "7-7" if place.flag == "network" else "40:2" if place.flag == "curriculum" else "other"
    if place.kind in (int, float):
        return min(default + 1, metadata["most"])
    return (3, 4) if place.kind == tuple[int, ...] else ("one", "two")
