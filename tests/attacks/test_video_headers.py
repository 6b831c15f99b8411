"""MP4 files of a few kilobytes whose headers claim gigabytes: FFmpeg would reserve them on opening."""

import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from footage import encode, picture

from modeling_finegym.video_decoding import MAX_SAMPLES, VideoDecodingError, open_video


NUM_FRAMES = 8


def claim(content: bytes, table: bytes, *numbers: int, at: int = 4) -> bytes:
    """Write numbers into a table, `at` bytes after its name."""
    place = content.index(table) + 4 + at
    return content[:place] + struct.pack(f">{len(numbers)}I", *numbers) + content[place + 4 * len(numbers) :]


def repeat_edit(content: bytes, count: int) -> bytes:
    """Show the whole film `count` times, one time after the other."""
    place = content.index(b"elst") - 4
    size = int.from_bytes(content[place : place + 4], "big")
    entry = content[place + 16 : place + 28]
    table = struct.pack(">I", 16 + 12 * count) + content[place + 4 : place + 12] + struct.pack(">I", count)
    longer = content[:place] + table + entry * count + content[place + size :]
    for parent in (b"edts", b"trak", b"moov"):
        start = content.index(parent) - 4
        grown = int.from_bytes(content[start : start + 4], "big") + 16 + 12 * count - size
        longer = longer[:start] + struct.pack(">I", grown) + longer[start + 4 :]
    return longer


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def compress_header(content: bytes) -> bytes:
    """Write the movie's header as old QuickTime could, with room that unfolds."""
    start = content.index(b"moov") - 4
    moov = box(b"moov", content[start + 8 :] + box(b"free", bytes(10**6)))
    packed = box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I", len(moov)) + zlib.compress(moov)))
    return content[:start] + box(b"moov", packed)


def lie_about_samples(content: bytes) -> bytes:
    return claim(claim(content, b"stsz", 1, 2**25), b"stsc", 1, 1, 2**25)


LIES = {
    "samples of one size": (lie_about_samples, "claims 33554432 samples; the limit is 8388608"),
    "the same in a box of 64 bits": (
        lambda content: claim(claim(content, b"stsz", 1, 2**25), b"moov", 0, at=-8),
        "claims 33554432 samples",
    ),
    "the same in free space that is a movie": (
        lambda content: lie_about_samples(content).replace(b"moov", b"free"),
        "claims 33554432 samples",
    ),
    "the same in no movie": (lambda content: lie_about_samples(content).replace(b"moov", b"mdia"), "claims 33554432"),
    "edits that repeat": (lambda content: repeat_edit(content, MAX_SAMPLES // NUM_FRAMES + 1), "claims 8388616"),
    "a compressed header": (compress_header, "has a compressed header, which may unfold to any size"),
}


@pytest.fixture
def film(tmp_path):
    encode(tmp_path / "film.mp4", [picture(number) for number in range(NUM_FRAMES)], np.arange(NUM_FRAMES) / 25)
    return (tmp_path / "film.mp4").read_bytes()


@pytest.mark.parametrize(("lie", "message"), LIES.values(), ids=LIES)
def test_a_claim_beyond_the_limit_is_refused_before_ffmpeg_sees_it(tmp_path, film, lie, message):
    (tmp_path / "lies.mp4").write_bytes(lie(film))
    with pytest.raises(VideoDecodingError, match=message) as caught:
        open_video(tmp_path / "lies.mp4")
    assert "lies.mp4" in str(caught.value)


def test_fragments_are_counted_together(tmp_path):
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(tmp_path / "film.mp4"), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = 96, 64, "yuv420p", {"g": "4"}
        for number in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_video(tmp_path / "film.mp4") as video:
        assert video.num_frames == NUM_FRAMES
    content = (tmp_path / "film.mp4").read_bytes()
    second = content.index(b"trun", content.index(b"trun") + 4)
    lying = claim(content[:second], b"trun", 2**22) + claim(content[second:], b"trun", 2**23)
    (tmp_path / "lies.mp4").write_bytes(lying)
    with pytest.raises(VideoDecodingError, match="lies.mp4 claims 12582914 samples; the limit is 8388608"):
        open_video(tmp_path / "lies.mp4")


def test_a_few_edits_are_shown(tmp_path, film):
    (tmp_path / "film.mp4").write_bytes(repeat_edit(film, 3))
    with open_video(tmp_path / "film.mp4") as video:
        assert video.num_frames == 3 * NUM_FRAMES


def test_sound_without_compression_has_as_many_samples_as_it_likes(tmp_path):
    """Claim five minutes of it, more than the limit; FFmpeg keeps its chunks, not its samples."""
    with av.open(str(tmp_path / "film.mov"), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for number in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
        samples.sample_rate, samples.pts = 48_000, 0
        container.mux([*video.encode(None), *sound.encode(samples), *sound.encode(None)])
    content = (tmp_path / "film.mov").read_bytes()
    track = content.index(b"soun")
    content = content[:track] + claim(content[track:], b"stsz", 300 * 48_000, at=8)
    (tmp_path / "film.mov").write_bytes(content[:track] + claim(content[track:], b"stts", 300 * 48_000, at=8))
    with open_video(tmp_path / "film.mov") as opened:
        assert opened.num_frames == NUM_FRAMES


def test_headers_larger_than_any_are_not_read(tmp_path):
    with open(tmp_path / "film.mp4", "wb") as file:
        file.write(box(b"ftyp", b"isom") + struct.pack(">I", 2**28) + b"moov")
        file.truncate(2**29)  # a hole, which takes no space on the disk
    with pytest.raises(VideoDecodingError, match="film.mp4 has a header of more than 134217728 bytes"):
        open_video(tmp_path / "film.mp4")
