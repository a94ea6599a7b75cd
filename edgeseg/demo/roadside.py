"""Paint all that stands still along the road: houses, gardens, fences, trees, lamps and signs.

Every ``paint_*`` here has the signature that a row of the tables in scene.py asks for: (canvas, x, z,
dice). The thing stands at ``x`` metres right of the centre line and begins ``z`` metres ahead.
``dice`` are its 14 chances (float64 in 0..1), the same in every frame. ``dice[0]`` and ``dice[1]`` are
spent on whether and where it stands; a painter uses the others for height, colour and kind.
"""

from __future__ import annotations

import math

import numpy as np

from edgeseg.demo.camera import LEFT, RIGHT
from edgeseg.demo.canvas import (
    BUILDING,
    DETAIL,
    FENCE,
    POLE,
    SIGN,
    TREE,
    TRIANGLE,
    Canvas,
    disc,
    front_quad,
    side_quad,
)
from edgeseg.demo.chance import Colour, Floats, mix, pick

LOT = 16.0  # metres of frontage per plot
WALLS = (
    (58, 72, 128),
    (70, 88, 150),
    (150, 190, 215),
    (205, 212, 216),
    (120, 150, 165),
    (95, 105, 112),
    (60, 66, 84),
    (140, 170, 190),
    (175, 160, 140),
    (80, 100, 130),
)
_ROOFS = ((62, 60, 66), (50, 62, 100), (84, 80, 80))
VIVID = (
    (170, 90, 30),
    (60, 130, 40),
    (40, 170, 225),
    (40, 40, 190),
    (215, 215, 215),
    (120, 50, 90),
)  # doors, shop fronts and signs


def paint_lot(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint one plot of the frontage: a house at the pavement, or a fenced garden."""
    if dice[2] < 0.68:
        _paint_building(canvas, x, z, dice)
    else:
        _paint_garden(canvas, x, z, dice)


def _paint_building(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint a house as deep as the plot, mostly with a pitched roof and a chimney, and its windows."""
    side = math.copysign(1.0, x)
    facing = LEFT if side > 0 else RIGHT
    x, back, end = x + side * dice[3], x + side * 9.0, z + LOT - 0.1
    height, wall = 5.5 + 7.5 * dice[4], pick(WALLS, dice[5])
    canvas.fill(front_quad(x, back, 0, height, z), wall, BUILDING)
    canvas.fill(side_quad(x, z, end, 0, height), wall, BUILDING, facing)
    if dice[6] < 0.7:
        ridge = np.array([(x + back) / 2, height + 2.4, z])
        eave = np.array([x, height, z])
        far = np.array([0, 0, end - z])
        canvas.fill(np.array([eave, ridge, [back, height, z]]), wall, BUILDING)
        canvas.fill(np.array([eave, eave + far, ridge + far, ridge]), pick(_ROOFS, dice[7]), BUILDING, facing)
        canvas.fill(front_quad(ridge[0] - 0.5, ridge[0] + 0.5, ridge[1] - 1, ridge[1] + 1.1, z + 1), wall, BUILDING)
    if z < 80:
        _paint_openings(canvas, x, z, height, dice)


def _paint_openings(canvas: Canvas, x: float, z: float, height: float, dice: Floats) -> None:
    """Paint windows on every floor, and at street level a door or a shop front."""
    facing = LEFT if x > 0 else RIGHT
    shop = dice[8] < 0.5
    columns, rows = np.meshgrid(
        z + np.arange(1.0, LOT - 1.5, 2.2 + 1.6 * dice[9]),
        np.arange(3.7 if shop else 1.0, height - 1.3, 2.8),
    )
    starts, floors = columns.ravel(), rows.ravel()
    if len(starts):
        if z < DETAIL:
            frames = side_quad(x, starts - 0.12, starts + 1.22, floors - 0.15, floors + 1.6)
            canvas.fill(frames, mix((215, 215, 215), (90, 90, 90), float(dice[10])), BUILDING, facing)
        glass = (150, 130, 110) if dice[11] < 0.3 else (58, 50, 46)
        canvas.fill(side_quad(x, starts, starts + 1.1, floors, floors + 1.45), glass, BUILDING, facing)
    if shop:
        canvas.fill(side_quad(x, z + 0.3, z + LOT - 0.5, 2.8, 3.4), pick(VIVID, dice[12]), BUILDING, facing)
        panes = z + np.arange(0.5, LOT - 2, 2.6)
        canvas.fill(
            side_quad(x, panes, panes + 2.3, panes * 0 + 0.4, panes * 0 + 2.7),
            (66, 62, 60),
            BUILDING,
            facing,
        )
    else:
        door = z + 4.0 + 6 * dice[13]
        canvas.fill(side_quad(x, door, door + 1.1, 0, 2.2), pick(VIVID, dice[12]), BUILDING, facing)


def _paint_garden(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint a house set back, a tree or two, a hedge, and a fence along the pavement."""
    side = math.copysign(1.0, x)
    if dice[3] < 0.6:
        _paint_building(canvas, x + side * 7.0, z, dice[::-1])
    leaf = mix((48, 92, 78), (36, 66, 62), float(dice[4]))
    for depth, turn in ((11.0, 3), (4.5, 6)):  # the plot's chances, dealt anew to each tree
        paint_tree(canvas, x + side * 2.5, z + depth, np.roll(dice, turn))
    for depth in np.arange(LOT - 1.0, 0, -3.2 if z < DETAIL else -8.0):
        canvas.foliage(x + side * 0.7, 0.9, z + depth, (3.2, 2.4 + dice[7]), leaf, float((dice[8] + depth / 7) % 1))
    _paint_fence(canvas, x, z, z + LOT - 0.4, 1.0 + 0.7 * dice[9], dice)


def _paint_fence(canvas: Canvas, x: float, z0: float, z1: float, height: float, dice: Floats) -> None:
    """Paint bars and a top rail from z0 to z1, with a dull sheet between them: the fence seen along its length."""
    facing = LEFT if x > 0 else RIGHT
    paint = mix((40, 44, 46), (110, 130, 150), float(dice[10]))
    canvas.fill(side_quad(x, z0, z1, 0, height), mix(paint, (60, 74, 72), 0.55), FENCE, facing)
    if z0 < DETAIL:
        bars = z0 + np.arange(0, z1 - z0, 0.35)
        canvas.fill(side_quad(x, bars, bars + 0.1, bars * 0, bars * 0 + height), paint, FENCE, facing)
    canvas.fill(side_quad(x, z0, z1, height - 0.12, height), paint, FENCE, facing)


def paint_railing(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint a low railing at the kerb."""
    _paint_fence(canvas, x, z, z + 6.5, 1.05, dice)


def paint_tree(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint a trunk under a crown of one leaf stamp, or of three when near."""
    height, trunk = 4.5 + 4.0 * dice[2], 0.14 + 0.12 * dice[3]
    canvas.fill(front_quad(x - trunk, x + trunk, 0, height * 0.7, z), (58, 70, 82), TREE)
    leaf = mix(mix((44, 104, 82), (30, 62, 54), float(dice[4])), (50, 110, 140), 0.7 * float(dice[5] ** 3))
    width = 2.6 + 2.0 * dice[6]
    crown = ((0.0, 0.8, dice[9]), (0.5, 0.66, dice[8]), (-0.5, 0.62, dice[7]))
    for shift, level, kind in crown if z < DETAIL else crown[:1]:
        canvas.foliage(x + shift * width * 0.5, height * level, z, (width, height * 0.5), leaf, float(kind))


def _paint_pole(canvas: Canvas, x: float, z: float, height: float, width: float, colour: Colour) -> None:
    """Paint a post of the given height and width in metres."""
    canvas.fill(front_quad(x - width / 2, x + width / 2, 0, height, z), colour, POLE)


def paint_lamp(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint a street lamp whose arm reaches over the road."""
    height, colour = 5.0 + 2.5 * dice[2], mix((60, 64, 64), (150, 152, 150), float(dice[3]))
    reach = math.copysign(1.3, -x)
    _paint_pole(canvas, x, z, height, 0.17, colour)
    canvas.fill(front_quad(x, x + reach, height, height + 0.1, z), colour, POLE)
    canvas.fill(front_quad(x + reach * 0.7, x + reach, height - 0.1, height + 0.12, z), (190, 200, 205), POLE)


def paint_sign(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint a round, triangular or rectangular sign or a traffic light, on its pole."""
    top = 2.3 + 0.8 * dice[2]
    _paint_pole(canvas, x, z, top, 0.1, (118, 120, 120))
    if dice[3] < 0.3:
        canvas.fill(disc(x, top, z, 0.42), (40, 36, 190), SIGN)
        canvas.fill(disc(x, top, z, 0.29), (225, 225, 225) if dice[4] < 0.7 else (170, 80, 30), SIGN)
    elif dice[3] < 0.5:
        canvas.fill(disc(x, top, z, 0.58, TRIANGLE), (40, 36, 190), SIGN)
        canvas.fill(disc(x, top - 0.02, z, 0.36, TRIANGLE), (225, 225, 225), SIGN)
    elif dice[3] < 0.75:
        width, height = 0.5 + 0.5 * dice[4], 0.4 + 0.5 * dice[5]
        canvas.fill(front_quad(x - width, x + width, top - height, top + 0.3, z), pick(VIVID, dice[6]), SIGN)
        canvas.fill(front_quad(x - width * 0.7, x + width * 0.7, top - 0.15, top, z), (225, 225, 225), SIGN)
    else:
        _paint_traffic_light(canvas, x, top, z, int(dice[7] * 3))


def _paint_traffic_light(canvas: Canvas, x: float, y: float, z: float, lit: int) -> None:
    """Paint a traffic light centred on (x, y, z); ``lit`` is 0 green, 1 amber or 2 red."""
    canvas.fill(front_quad(x - 0.26, x + 0.26, y - 0.7, y + 0.7, z), (26, 28, 28), SIGN)
    for lamp, colour in enumerate(((110, 230, 60), (60, 190, 255), (60, 50, 255))):
        glow = colour if lamp == lit else mix(colour, (20, 20, 20), 0.8)
        canvas.fill(disc(x, y + 0.42 * (lamp - 1), z, 0.15), glow, SIGN)
