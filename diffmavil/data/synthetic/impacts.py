"""Kinds of event that strike: a ball, a pendulum, an engine and rain.

All four draw their sound from ``Strike``; they differ in when the strikes come: closer and closer, evenly,
quickly with the speed going up or down, and at random.
"""

from __future__ import annotations

import numpy as np

from diffmavil.data.synthetic.sound import Strike, Wave, decays, lay, pitch_of_size
from diffmavil.data.synthetic.stage import Event, Stage


def bouncing_ball(stage: Stage) -> Event:
    """A ball falls and bounces, lower and quicker each time; each contact with the floor is heard."""
    rng, canvas, (floor_ink, ball_ink, mark_ink) = stage.rng, stage.canvas, stage.inks
    size = rng.random()
    radius = 0.16 + 0.14 * size
    fall_s, restitution = rng.uniform(0.28, 0.48), rng.uniform(0.68, 0.84)
    floor_v = 0.85
    drop = floor_v - radius + 0.95

    onsets: list[float] = []
    speeds: list[float] = []
    height = np.full(stage.frame_s.size, drop)
    release_s = rng.uniform(-0.25, 0.25)
    while release_s < stage.duration_s:
        falling = (stage.frame_s >= release_s) & (stage.frame_s < release_s + fall_s)
        height[falling] = drop * (1.0 - ((stage.frame_s[falling] - release_s) / fall_s) ** 2)
        contact_s, flight_s = release_s + fall_s, 2.0 * fall_s * restitution
        while flight_s > 0.06:
            onsets.append(contact_s)
            speeds.append(flight_s / (2.0 * fall_s * restitution))
            share = (stage.frame_s - contact_s) / flight_s
            flying = (share >= 0.0) & (share < 1.0)
            apex = drop * (flight_s / (2.0 * fall_s)) ** 2
            height[flying] = apex * 4.0 * share[flying] * (1.0 - share[flying])
            contact_s, flight_s = contact_s + flight_s, flight_s * restitution
        rest_s = rng.uniform(0.15, 0.35)
        height[(stage.frame_s >= contact_s) & (stage.frame_s < contact_s + rest_s)] = 0.0
        height[stage.frame_s >= contact_s + rest_s] = drop
        release_s = contact_s + rest_s + 0.1

    drift = rng.uniform(-0.5, 0.5)
    u = drift * (stage.frame_s / stage.duration_s - 0.5) * 2.0
    squash = 1.0 - 0.25 * np.exp(-height / 0.06)
    v = floor_v - radius * squash - height
    canvas.box(0.0, floor_v + 0.05, 1.0, 0.05, floor_ink)
    canvas.disc(u, v, radius / squash, radius * squash, ball_ink)
    canvas.disc(u, v, 0.55 * radius, 0.2 * radius, mark_ink)

    strike = Strike.draw(rng, pitch_of_size(rng, size, register=-0.3), decay_s=0.07)
    kernel = strike.kernel(rng, stage.sample_rate_hz)
    sound = stage.silence()
    for time_s, speed in zip(onsets, speeds, strict=True):
        lay(sound, kernel, time_s, speed, stage.sample_rate_hz)
    return _event(stage, sound, np.array(onsets), strike.pitch_hz)


def pendulum(stage: Stage) -> Event:
    """A pendulum swings in a frame and ticks against the block at each end of its swing, evenly."""
    rng, canvas, (frame_ink, rod_ink, bob_ink) = stage.rng, stage.canvas, stage.inks
    size = rng.random()
    radius, length, swing = 0.12 + 0.12 * size, rng.uniform(1.0, 1.4), rng.uniform(0.4, 0.62)
    period_s = float(np.exp(rng.uniform(np.log(0.17), np.log(0.75))))
    first_s = rng.uniform(0.0, period_s)
    onsets = np.arange(first_s, stage.duration_s, period_s)
    angle = swing * np.cos(np.pi * (stage.frame_s - first_s) / period_s)

    pivot_v = -0.85
    canvas.box(0.0, pivot_v - 0.07, 0.95, 0.07, frame_ink)
    for side in (-1.0, 1.0):
        block_u = side * ((length + radius * 0.2) * np.sin(swing) + radius * 1.05 + 0.06)
        canvas.box(block_u, pivot_v + length * np.cos(swing), 0.06, 0.2, frame_ink)
        canvas.box(side * 0.9, 0.0, 0.05, 0.92, frame_ink)
    bob_u, bob_v = length * np.sin(angle), pivot_v + length * np.cos(angle)
    canvas.line(0.0, pivot_v, bob_u, bob_v, 0.07, rod_ink)
    canvas.disc(bob_u, bob_v, radius, radius, bob_ink)

    strike = Strike.draw(rng, pitch_of_size(rng, size, register=0.5), decay_s=0.03)
    interval = rng.uniform(0.8, 1.25)
    kernels = [strike.kernel(rng, stage.sample_rate_hz, bend=bend) for bend in (1.0, interval)]
    sound = stage.silence()
    for count, time_s in enumerate(onsets):
        lay(sound, kernels[count % 2], time_s, 1.0, stage.sample_rate_hz)
    return _event(stage, sound, onsets, strike.pitch_hz)


def engine(stage: Stage) -> Event:
    """A wheel turns, quicker or slower as it goes; the engine fires each time its piston is fully in."""
    rng, canvas, (metal_ink, wheel_ink, rod_ink) = stage.rng, stage.canvas, stage.inks
    size = rng.random()
    crank, rod = 0.2 + 0.12 * size, 0.75
    slow_hz = rng.uniform(2.6, 4.0)
    fast_hz = slow_hz * rng.uniform(1.5, 2.1)
    start_hz, stop_hz = (slow_hz, fast_hz) if rng.random() < 0.5 else (fast_hz, slow_hz)
    turn = rng.random()

    def turns(t: Wave) -> Wave:
        return np.asarray(turn + start_hz * t + (stop_hz - start_hz) * t**2 / (2.0 * stage.duration_s))

    sample_turns = turns(stage.sample_s)
    onsets = stage.sample_s[1:][np.diff(np.floor(sample_turns)) > 0]

    angle = 2.0 * np.pi * turns(stage.frame_s)
    hub_u = 0.45
    pin_u, pin_v = hub_u - crank * np.cos(angle), crank * np.sin(angle)
    piston_u = pin_u - np.sqrt(rod**2 - pin_v**2)
    head_u = hub_u - crank - rod
    canvas.disc(hub_u, 0.0, crank + 0.2, crank + 0.2, wheel_ink)
    canvas.disc(hub_u, 0.0, crank + 0.08, crank + 0.08, metal_ink)
    for side in (-1.0, 1.0):
        canvas.box(head_u + 0.28, side * 0.3, 0.48, 0.06, metal_ink)
    canvas.box(head_u - 0.17, 0.0, 0.05, 0.36, metal_ink)
    flash = decays(stage.frame_s + 1e-6, onsets, 0.07)
    canvas.box(
        (piston_u + head_u - 0.24) / 2.0,
        0.0,
        (piston_u - head_u) / 2.0 + 0.02,
        0.24,
        stage.light,
        opacity=flash,
    )
    canvas.box(piston_u, 0.0, 0.12, 0.24, wheel_ink)
    canvas.line(piston_u, 0.0, pin_u, pin_v, 0.1, rod_ink)
    canvas.line(hub_u, 0.0, pin_u, pin_v, 0.14, wheel_ink)

    strike = Strike.draw(rng, pitch_of_size(rng, size, register=-1.0), decay_s=0.05)
    kernel = strike.kernel(rng, stage.sample_rate_hz)
    sound = stage.silence()
    for time_s in onsets:
        lay(sound, kernel, time_s, rng.uniform(0.8, 1.0), stage.sample_rate_hz)
    return _event(stage, sound, onsets, strike.pitch_hz)


def rain(stage: Stage) -> Event:
    """Drops fall from a cloud, now more, now fewer; each is heard when it meets the ground."""
    rng, canvas, (cloud_ink, ground_ink, drop_ink) = stage.rng, stage.canvas, stage.inks
    size = rng.random()
    ground_v, cloud_v, fall_per_s = 0.8, -0.6, rng.uniform(1.6, 2.6)
    mean_hz = float(np.exp(rng.uniform(np.log(10.0), np.log(36.0))))
    swell, swell_hz, phase = rng.uniform(0.3, 0.9), rng.uniform(0.25, 0.6), rng.random()
    ends_s = stage.duration_s + (ground_v - cloud_v) / fall_per_s
    times = np.sort(rng.uniform(0.0, ends_s, rng.poisson(2.0 * mean_hz * ends_s)))
    density = 1.0 + swell * np.sin(2.0 * np.pi * (swell_hz * times + phase))
    onsets = times[rng.random(times.size) * 2.0 < density]
    drop_u = rng.uniform(-0.85, 0.85, onsets.size)

    canvas.box(0.0, ground_v + 0.1, 1.0, 0.06, ground_ink)
    to_go_s = onsets[:, None] - stage.frame_s
    drop_v = ground_v - fall_per_s * to_go_s
    drop, frame = np.nonzero((to_go_s > 0.0) & (drop_v > cloud_v))
    length = 0.08 + 0.06 * size
    canvas.stamps(frame, drop_u[drop], drop_v[drop, frame], 0.04, length, drop_ink, opacity=np.ones(drop.size))
    drop, frame = np.nonzero((to_go_s <= 0.0) & (to_go_s > -0.14))
    fade = 1.0 + to_go_s[drop, frame] / 0.2
    canvas.stamps(frame, drop_u[drop], np.full(drop.size, ground_v + 0.02), 0.13, 0.05, drop_ink, opacity=fade)
    for u, radius in ((-0.5, 0.24), (-0.1, 0.33), (0.35, 0.28), (0.65, 0.18)):
        canvas.disc(u, cloud_v - 0.1, radius, radius * 0.8, cloud_ink)

    strike = Strike.draw(rng, pitch_of_size(rng, size, register=1.0), decay_s=0.02)
    kernels = [strike.kernel(rng, stage.sample_rate_hz, bend=bend) for bend in 2.0 ** rng.uniform(-0.3, 0.3, 6)]
    sound = stage.silence()
    for time_s in onsets:
        kernel = kernels[int(rng.integers(len(kernels)))]
        lay(sound, kernel, time_s, rng.uniform(0.4, 1.0), stage.sample_rate_hz)
    return _event(stage, sound, onsets, strike.pitch_hz)


def _event(stage: Stage, sound: Wave, onsets_s: Wave, pitch_hz: float) -> Event:
    heard = onsets_s[(onsets_s >= 0.0) & (onsets_s < stage.duration_s)]
    return Event(sound, tuple(heard.tolist()), heard.size / stage.duration_s, pitch_hz)
