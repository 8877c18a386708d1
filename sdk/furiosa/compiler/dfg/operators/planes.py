"""Lines [N, C, L] as images [N, C, H, W]: of one row."""


def planar(numbers: tuple[int, ...], row: int) -> tuple[int, int]:
    """Numbers of height and width, where an operator on lines has but one; `row` is that of a height of 1.

    Raises: ValueError for more.
    """
    height, width = (row, *numbers) if len(numbers) == 1 else numbers
    return height, width
