"""Kinds of event that sing: a string, a siren, a bird and a lighthouse.

All four draw their sound from ``Voice``; they differ in what the tone does: it begins at once and dies away,
at the pitch of the string's length; it glides up and down without a pause; it comes in short quick glides; it
goes on and off at one pitch.
"""

from __future__ import annotations

import math

import numpy as np

from diffmavil.data.synthetic.canvas import Plane, column
from diffmavil.data.synthetic.sound import Voice, Wave, decays, pitch_of_size
from diffmavil.data.synthetic.stage import Event, Stage


def _enough(stage: Stage, shortest_s: float, least: int) -> int:
    """How many sounds, ``shortest_s`` or more apart and the first up to 0.3 s early, last for the clip.

    At least ``least``, so that a clip of three seconds does not depend on it.
    """
    return max(least, math.ceil((stage.duration_s + 0.3) / shortest_s) + 1)


def string(stage: Stage) -> Event:
    """A finger shortens a string and a plectrum plucks it: it sounds at the pitch of its free length."""
    rng, canvas, (neck_ink, string_ink, finger_ink) = stage.rng, stage.canvas, stage.inks
    gaps = rng.uniform(0.3, 0.9, _enough(stage, 0.3, 12))
    onsets = np.cumsum(gaps) - rng.uniform(0.1, gaps[0])
    onsets = onsets[onsets < stage.duration_s - 0.15]
    stops = rng.uniform(-0.75, 0.25, onsets.size)
    decay_s, peg_u = rng.uniform(0.15, 0.6), 0.95

    # The finger slides to its next stop in the last 0.12 s before a pluck, and damps the string meanwhile.
    knots_s = np.stack((onsets - 0.12, onsets), axis=1).ravel()
    knots_u = np.stack((np.append(stops[:1], stops[:-1]), stops), axis=1).ravel()
    finger_u = np.interp(stage.frame_s, knots_s, knots_u)
    swing = 0.2 * decays(stage.frame_s, onsets, decay_s)
    free = peg_u - finger_u

    def spindle(x: Plane, y: Plane) -> Plane:
        share = np.clip((x - column(finger_u)) / column(free), 0.0, 1.0)
        return np.asarray(np.abs(y) - column(swing) * np.sin(np.float32(np.pi) * share) - np.float32(0.025))

    for side in (-1.0, 1.0):
        canvas.box(0.0, side * 0.36, 1.0, 0.06, neck_ink)
        canvas.box(side * peg_u, 0.0, 0.05, 0.4, neck_ink)
    canvas.paint(spindle, (-peg_u, peg_u, -0.3, 0.3), string_ink)
    canvas.line(finger_u, -0.02, finger_u, -0.75, 0.2, finger_ink)
    next_pluck = onsets[np.minimum(np.searchsorted(onsets, stage.frame_s - 0.12), onsets.size - 1)]
    dip = np.clip((stage.frame_s - next_pluck) / 0.12, -1.0, 1.0)
    plectrum_u = finger_u + 0.6 * free
    canvas.line(
        plectrum_u,
        0.55 - 0.55 * (1.0 - np.abs(dip)),
        plectrum_u + 0.12,
        0.95 - 0.55 * (1.0 - np.abs(dip)),
        0.13,
        string_ink,
    )

    open_hz = pitch_of_size(rng, 1.0, register=0.0)
    note = np.maximum(np.searchsorted(onsets, stage.sample_s, side="right") - 1, 0)
    frequency_hz = open_hz * 2.0 * peg_u / (peg_u - stops[note])
    rise = np.clip((stage.sample_s - onsets[note]) / 0.004, 0.0, 1.0)
    sound = (
        Voice.draw(rng).sing(rng, frequency_hz, stage.sample_rate_hz) * rise * decays(stage.sample_s, onsets, decay_s)
    )
    return Event(sound, tuple(onsets.tolist()), onsets.size / stage.duration_s, float(open_hz))


def siren(stage: Stage) -> Event:
    """A lamp turns on a box; the tone rises and falls as its beam does."""
    rng, canvas, (box_ink, lamp_ink, rim_ink) = stage.rng, stage.canvas, stage.inks
    size = rng.random()
    radius = 0.2 + 0.12 * size
    rate_hz, phase, depth = rng.uniform(0.5, 2.2), rng.random(), rng.uniform(0.25, 0.6)

    def angle(t: Wave) -> Wave:
        return np.asarray(2.0 * np.pi * (rate_hz * t + phase))

    lamp_v = -0.1
    canvas.beam(0.0, lamp_v, angle(stage.frame_s), 0.42, 0.95, stage.light, opacity=0.85)
    canvas.box(0.0, lamp_v + radius + 0.3, 0.5, 0.3, box_ink)
    canvas.disc(0.0, lamp_v, radius, radius, lamp_ink)
    canvas.box(0.0, lamp_v + radius + 0.3, 0.4, 0.06, rim_ink)

    pitch_hz = pitch_of_size(rng, size, register=0.0)
    frequency_hz = pitch_hz * 2.0 ** (depth * np.sin(angle(stage.sample_s)))
    sound = Voice.draw(rng).sing(rng, frequency_hz, stage.sample_rate_hz)
    return Event(sound, (), rate_hz, pitch_hz)


def bird(stage: Stage) -> Event:
    """A bird on a branch opens its beak for each of its short gliding chirps."""
    rng, canvas, (branch_ink, body_ink, beak_ink) = stage.rng, stage.canvas, stage.inks
    size = rng.random()
    body = 0.3 + 0.15 * size
    length_s = rng.uniform(0.09, 0.2)
    gaps = length_s + rng.exponential(rng.uniform(0.06, 0.3), _enough(stage, 0.14, 30)) + 0.05
    onsets = np.cumsum(gaps) - gaps[0] * rng.uniform(0.3, 1.0)
    onsets -= max(0.0, onsets[0] - (stage.duration_s - length_s))  # a chirp at least
    onsets = onsets[onsets < stage.duration_s]

    def share(t: Wave) -> Wave:
        last = np.maximum(np.searchsorted(onsets, t, side="right") - 1, 0)
        return np.asarray(np.clip((t - onsets[last]) / length_s, 0.0, 1.0))

    open_angle = 0.06 + 0.6 * np.sin(np.pi * share(stage.frame_s)) ** 0.5
    bob = -0.06 * np.sin(np.pi * share(stage.frame_s))
    canvas.box(0.0, 0.75, 1.0, 0.06, branch_ink)
    for leg_u in (-0.12, 0.12):
        canvas.line(leg_u, 0.3, leg_u, 0.72, 0.06, branch_ink)
    canvas.line(-0.25, 0.2, -0.85, -0.05 + bob * 2.0, 0.17, body_ink)
    canvas.disc(0.0, 0.2, body * 1.15, body, body_ink)
    head_u, head_v, head = 0.3, -0.3 + bob, 0.26
    for turn in (open_angle, -open_angle):
        canvas.line(head_u + 0.2, head_v, head_u + 0.6 * np.cos(turn), head_v - 0.6 * np.sin(turn), 0.1, beak_ink)
    canvas.disc(head_u, head_v, head, head, body_ink)
    canvas.disc(head_u + 0.08, head_v - 0.08, 0.06, 0.06, beak_ink)

    pitch_hz, glide = pitch_of_size(rng, size, register=1.0), rng.uniform(0.3, 0.7) * rng.choice((-1.0, 1.0))
    progress = share(stage.sample_s)
    envelope = np.sin(np.pi * progress) ** 0.5
    sound = (
        Voice.draw(rng).sing(rng, pitch_hz * 2.0 ** (glide * (2.0 * progress - 1.0)), stage.sample_rate_hz) * envelope
    )
    return Event(sound, tuple(onsets.tolist()), onsets.size / stage.duration_s, pitch_hz)


def lighthouse(stage: Stage) -> Event:
    """A tower sends long and short flashes, and its horn sounds with the light, at one pitch."""
    rng, canvas, (tower_ink, stripe_ink, lamp_ink) = stage.rng, stage.canvas, stage.inks
    size = rng.random()
    unit_s = rng.uniform(0.07, 0.17)
    count = _enough(stage, 0.14, 40)
    lengths = np.where(rng.random(count) < 0.5, 1.0, 3.0) * unit_s
    gaps = np.where(rng.random(count) < 0.75, 1.0, 3.0) * unit_s
    onsets = np.cumsum(np.append(0.0, lengths[:-1] + gaps[:-1])) + rng.uniform(-0.3, 0.3)
    shown = onsets < stage.duration_s
    onsets, lengths = onsets[shown], lengths[shown]

    def light(t: Wave, ramp_s: float) -> Wave:
        last = np.maximum(np.searchsorted(onsets, t, side="right") - 1, 0)
        since = t - onsets[last]
        return np.asarray(np.clip(np.minimum(since, lengths[last] - since) / ramp_s + 0.5, 0.0, 1.0))

    lit = light(stage.frame_s, 0.02)
    lamp_v, half = -0.62, 0.15 + 0.07 * size
    canvas.glow(0.0, lamp_v, 0.85, stage.light, opacity=0.9 * lit)
    canvas.box(0.0, 0.25, half, 0.7, tower_ink)
    for v in (-0.2, 0.2, 0.6):
        canvas.box(0.0, v, half, 0.1, stripe_ink)
    canvas.box(0.0, -0.42, half + 0.1, 0.05, stripe_ink)
    canvas.disc(0.0, lamp_v, 0.17, 0.17, lamp_ink)
    canvas.disc(0.0, lamp_v, 0.17, 0.17, stage.light, opacity=lit)

    pitch_hz = pitch_of_size(rng, size, register=-0.4)
    tone = Voice.draw(rng).sing(rng, np.full(stage.sample_s.size, pitch_hz), stage.sample_rate_hz)
    heard = tuple(onsets[onsets >= 0.0].tolist())
    return Event(tone * light(stage.sample_s, 0.01), heard, len(heard) / stage.duration_s, pitch_hz)
