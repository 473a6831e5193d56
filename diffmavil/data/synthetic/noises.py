"""Kinds of event that rush: a saw and wind in grass.

Both draw their sound from ``Hiss``; a saw rushes once a stroke, wind swells slowly and unevenly.
"""

from __future__ import annotations

import numpy as np

from diffmavil.data.synthetic.canvas import Plane, column
from diffmavil.data.synthetic.sound import Hiss, Wave
from diffmavil.data.synthetic.stage import Event, Stage


def saw(stage: Stage) -> Event:
    """A saw goes to and fro in a log; it is as loud as it is quick, and one way louder than the other."""
    rng, canvas, (log_ink, blade_ink, grip_ink) = stage.rng, stage.canvas, stage.inks
    rate_hz, phase, reach = rng.uniform(0.7, 2.2), rng.random(), rng.uniform(0.3, 0.5)
    turns = rate_hz * stage.frame_s + phase
    blade_u = reach * np.sin(2.0 * np.pi * turns)
    blade_v = -0.35 + 0.3 * stage.frame_s / stage.duration_s
    tooth = 0.16

    def blade(x: Plane, y: Plane) -> Plane:
        along, down = x - column(blade_u), y - column(blade_v)
        teeth = np.abs(np.mod(along, np.float32(tooth)) - np.float32(tooth / 2)) * 1.6
        return np.asarray(np.maximum(np.abs(along) - np.float32(0.75), np.maximum(-down - 0.12, down - 0.05 - teeth)))

    canvas.disc(0.0, 0.4, 0.5, 0.5, log_ink)
    canvas.disc(0.0, 0.4, 0.36, 0.36, grip_ink)
    canvas.disc(0.0, 0.4, 0.26, 0.26, log_ink)
    canvas.disc(0.0, 0.4, 0.12, 0.12, grip_ink)
    canvas.paint(blade, (-1.3, 1.3, -0.6, 0.3), blade_ink)
    canvas.box(blade_u - 0.78, blade_v, 0.14, 0.22, grip_ink)
    canvas.box(blade_u - 0.78, blade_v, 0.06, 0.11, blade_ink)

    speed = np.cos(2.0 * np.pi * (rate_hz * stage.sample_s + phase))
    back = rng.uniform(0.3, 0.8)
    hiss = Hiss.draw(rng, register=1.1)
    forth_noise = hiss.blow(rng, speed.size, stage.sample_rate_hz, bend=rng.uniform(1.0, 1.5))
    back_noise = hiss.blow(rng, speed.size, stage.sample_rate_hz, bend=rng.uniform(0.7, 1.0))
    forth_part, back_part = np.maximum(speed, 0.0) ** 1.5, back * np.maximum(-speed, 0.0) ** 1.5
    sound = forth_noise * forth_part + back_noise * back_part
    turn_s = (np.arange(1.0, 2.0 * rate_hz * stage.duration_s + 3.0) / 2.0 - 0.25 - phase) / rate_hz
    onsets = turn_s[(turn_s >= 0.0) & (turn_s < stage.duration_s)]
    return Event(sound, tuple(onsets.tolist()), rate_hz, hiss.centre_hz)


def wind(stage: Stage) -> Event:
    """Grass leans over as the wind blows; the stronger, the louder and brighter it rushes."""
    rng, canvas, (ground_ink, grass_ink, tip_ink) = stage.rng, stage.canvas, stage.inks
    rates_hz, phases = rng.uniform((0.25, 0.6), (0.6, 1.4)), rng.random(2)
    gust = rng.uniform(0.25, 0.5)

    def strength(t: Wave) -> Wave:
        slow, quick = (np.sin(2.0 * np.pi * (rate * t + phase)) for rate, phase in zip(rates_hz, phases, strict=True))
        return np.asarray(0.5 + 0.5 * ((1.0 - gust) * slow + gust * quick))

    force = strength(stage.frame_s)
    flutter = 0.03 * force * np.sin(2.0 * np.pi * rng.uniform(4.0, 6.0) * stage.frame_s)
    bend = 0.55 * force + flutter - 0.05
    root_v, pitch_u, height = 0.8, rng.uniform(0.22, 0.34), rng.uniform(1.1, 1.5)

    def blades(x: Plane, y: Plane) -> Plane:
        up = np.clip((np.float32(root_v) - y) / np.float32(height), 0.0, None)
        along = x - column(bend) * up**2
        aside = np.abs(np.mod(along, np.float32(pitch_u)) - np.float32(pitch_u / 2))
        width = np.float32(0.27 * pitch_u) * (1.0 - up)
        sides = np.maximum(aside - width, np.abs(along) - np.float32(0.85))
        return np.asarray(np.maximum(sides, y - np.float32(root_v)))

    canvas.box(0.0, root_v + 0.08, 1.0, 0.1, ground_ink)
    canvas.paint(blades, (-1.0, 1.4, root_v - height, root_v), grass_ink)
    seed_u, seed_v = -0.4 + 1.3 * bend, root_v - height * 1.02
    canvas.line(-0.4, root_v, seed_u, seed_v, 0.04, grass_ink)
    canvas.disc(seed_u, seed_v, 0.1, 0.1, tip_ink)

    blow = strength(stage.sample_s)
    hiss = Hiss.draw(rng, register=-0.2)
    low = hiss.blow(rng, blow.size, stage.sample_rate_hz, bend=0.8)
    high = hiss.blow(rng, blow.size, stage.sample_rate_hz, bend=1.4)
    sound = (low * (1.0 - blow) + high * blow) * blow**1.5
    return Event(sound, (), float(rates_hz[0]), hiss.centre_hz)
