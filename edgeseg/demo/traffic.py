"""Paint what moves or could: cars, pedestrians and bicyclists.

The signature is that of roadside.py, (canvas, x, z, dice), with z in metres at the end nearer to the
camera; the rows in scene.py move the things by changing z. A car is seen from behind on the camera's side
of the road and from the front on the other; legs swing with ``canvas.time``.
"""

from __future__ import annotations

import math

import numpy as np

from edgeseg.demo.camera import FRONT, LEFT, RIGHT, TOP
from edgeseg.demo.canvas import BICYCLIST, CAR, DETAIL, PEDESTRIAN, Canvas, disc, front_quad, wheel
from edgeseg.demo.chance import Floats, mix, pick

_CARS = (
    (30, 28, 28),
    (190, 190, 192),
    (215, 216, 218),
    (45, 40, 140),
    (130, 80, 40),
    (90, 86, 84),
    (70, 90, 60),
    (60, 110, 150),
    (150, 130, 90),
)
_GLASS = (62, 56, 52)
_CLOTHES = (
    (32, 30, 34),
    (70, 45, 40),
    (60, 60, 150),
    (160, 150, 140),
    (110, 80, 50),
    (60, 90, 70),
    (45, 60, 90),
)
_CAR_PROFILE = np.array(((0, 0.25), (0, 0.92), (0.5, 1.45), (2.3, 1.45), (3.1, 0.95), (4.2, 0.8), (4.2, 0.25)))


def paint_car(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint a car, seen from behind on the camera's side of the road and from the front on the other."""
    rear = x * canvas.camera.lateral > 0
    outline = _CAR_PROFILE if rear else (_CAR_PROFILE * (-1, 1) + (4.2, 0))[::-1]
    profile = outline * (1.0 + 0.1 * dice[2], 1.0 + 0.35 * dice[3] ** 3) + (z, 0)
    half = 0.82 + 0.08 * dice[4]
    flank = x + math.copysign(half, canvas.camera.lateral - x)
    facing = RIGHT if flank > x else LEFT
    left, right = (np.array([[edge, y, along] for along, y in profile]) for edge in (x - half, x + half))
    near_side, paint = (left if flank < x else right), pick(_CARS, dice[5])

    canvas.fill_hull(np.concatenate([left, right]), paint, CAR, TOP)
    canvas.fill(near_side, paint, CAR, facing)
    if z < DETAIL:
        _paint_car_side(canvas, near_side, 1 if rear else 2, facing)
    canvas.fill(np.array([left[0], right[0], right[1], left[1]]), paint, CAR)
    screen = 1 if rear else 2
    pane = np.array([left[screen], right[screen], right[screen + 1], left[screen + 1]])
    canvas.fill(pane * 0.86 + pane.mean(axis=0) * 0.14, _GLASS, CAR)
    if z < DETAIL:
        _paint_car_end(canvas, x, z - 0.01, half, float(profile[1, 1]), rear)


def _paint_car_side(canvas: Canvas, profile: Floats, roof: int, facing: int) -> None:
    """Paint side windows and wheels; the corners from ``roof`` on are those of the cabin."""
    cabin = profile[roof : roof + 4]
    canvas.fill(cabin * 0.8 + cabin.mean(axis=0) * 0.2 + (0, 0.03, 0), _GLASS, CAR, facing)
    x, start = float(profile[0, 0]), float(profile[0, 2])
    for radius, lift, colour in ((0.33, 0.0, (28, 28, 30)), (0.18, 0.15, (120, 120, 120))):
        wheels = np.array([wheel(x, start + along, radius) for along in (0.8, 3.4)])
        canvas.fill(wheels + (0, lift, 0), colour, CAR, facing)


def _paint_car_end(canvas: Canvas, x: float, z: float, half: float, top: float, rear: bool) -> None:
    """Paint tyres, bumper, lights and plate of the end that faces the camera."""
    lamp, plate = ((40, 30, 200), (70, 200, 225)) if rear else ((235, 240, 245), (220, 225, 225))
    for edge in (-half, half):
        inner = edge * 0.7
        canvas.fill(front_quad(x + edge, x + inner, 0, 0.3, z), (26, 26, 28), CAR)
        canvas.fill(front_quad(x + edge * 0.97, x + inner, top - 0.3, top - 0.1, z), lamp, CAR)
    canvas.fill(front_quad(x - half, x + half, 0.25, 0.4, z), (52, 50, 50), CAR)
    canvas.fill(front_quad(x - 0.26, x + 0.26, 0.44, 0.56, z), plate, CAR)


def _paint_person(canvas: Canvas, x: float, z: float, dice: Floats, label: int, lift: float) -> None:
    """Paint a person whose legs swing; ``lift`` (metres) raises a rider onto the saddle."""
    tall = 0.92 + 0.16 * dice[3]
    swing = 0.2 * math.sin(canvas.time * 7.0 + 6.3 * dice[4])
    coat, trousers = pick(_CLOTHES, dice[5]), pick(_CLOTHES[:3], dice[6])
    hip, shoulder = lift + 0.85 * tall, lift + 1.45 * tall
    for foot in (-swing, swing):
        leg = np.array([[x - 0.13, hip, z], [x + 0.13, hip, z], [x + foot + 0.08, lift, z], [x + foot - 0.08, lift, z]])
        canvas.fill(leg, trousers, label)
    canvas.fill(
        np.array([[x - 0.2, hip, z], [x + 0.2, hip, z], [x + 0.24, shoulder, z], [x - 0.24, shoulder, z]]),
        coat,
        label,
    )
    for edge in (-0.25, 0.25) if z < DETAIL / 2 else ():
        canvas.fill(
            front_quad(x + edge - 0.06, x + edge + 0.06, hip, shoulder - 0.05, z),
            mix(coat, (0, 0, 0), 0.25),
            label,
        )
    canvas.fill(disc(x, shoulder + 0.17, z, 0.14), (120, 150, 195) if dice[7] < 0.6 else (40, 48, 60), label)


def paint_pedestrian(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint a walker, up to 0.7 m to either side of ``x``."""
    _paint_person(canvas, x + 1.4 * (dice[2] - 0.5), z, dice, PEDESTRIAN, 0.0)


def paint_bicyclist(canvas: Canvas, x: float, z: float, dice: Floats) -> None:
    """Paint a rider on two wheels with a handlebar, all of class bicyclist."""
    for along in (1.1, 0.0):
        canvas.fill_hull(
            np.concatenate([wheel(x - 0.03, z + along, 0.34), wheel(x + 0.03, z + along, 0.34)]),
            (34, 34, 34),
            BICYCLIST,
            FRONT,
        )
    canvas.fill(front_quad(x - 0.28, x + 0.28, 0.95, 1.02, z + 0.5), (60, 60, 60), BICYCLIST)
    _paint_person(canvas, x, z, dice, BICYCLIST, 0.22)
