"""Random masking as MAE describes it, clip by clip and patch by patch."""

from __future__ import annotations


def mask(noise: list[float], ratio: float, valid: list[bool]) -> tuple[set[int], set[int]]:
    """Visible and masked real patches of one clip: of its real patches, those with the smallest noise are visible."""
    real = [i for i in range(len(noise)) if valid[i]]
    count = int(len(real) * (1 - ratio) + 1e-6)
    if count < 1:
        count = 1
    visible: set[int] = set()
    while len(visible) < count:
        smallest = None
        for i in real:
            if i not in visible and (smallest is None or noise[i] < noise[smallest]):
                smallest = i
        assert smallest is not None
        visible.add(smallest)
    return visible, {i for i in real if i not in visible}
