"""Every frame is the right one, bit for bit: compared with libavcodec's plain decoding of the whole file, in order."""

import hashlib
import random
import shutil
import subprocess

import av
import numpy as np
import pytest
from footage import numbers_of
from video_zoo import ENCODED, NUM_FRAMES, build_zoo

from finegym.data.index import read_index
from finegym.preparation.own_data import import_videos
from modeling_finegym.video_decoding import VideoDecodingError, open_video
from modeling_finegym.video_packets import are_frames, scan


COPIES = [f"{name}{end}" for name in ("packed", "b_frames", "not_coded") for end in (".avi", ".mp4", ".mkv")]
COPIES += [f"{name}_without_times.mp4" for name in ("packed", "b_frames", "not_coded", "h264")]
FIELDS = ["field_pairs.mp4", "fields.h264", "fields.ts", "fields.mp4", "fields.mkv"]
STARTS_IN_OPEN_GOP = [f"starts_late_{name}" for name in ("open_gop.mp4", "open_gop.ts", "open_gop_hevc.mp4")]
PARTS = ["starts_late_h264.mp4", *STARTS_IN_OPEN_GOP, "tuned_in_late.ts"]
PARTS += [f"edit_list_{name}" for name in ("h264.mp4", "open_gop.mp4", "open_gop_hevc.mp4")]
ZOO = [*ENCODED, *COPIES, *FIELDS, *PARTS]
# Their packets identify the frames, so reading some does not require decoding all.
RANDOM_ACCESS = {
    "h264.mp4",
    "h264.mkv",
    "unused_b_frames.mp4",
    "open_gop.mp4",
    "ten_bits.mp4",
    "open_gop_hevc.mp4",
    "hidden_frames.webm",
}
RANDOM_ACCESS |= {"vp9.webm", "mpeg4.mp4", "ffv1.mkv", "b_frames.mp4", "b_frames.mkv"}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    files = build_zoo(tmp_path_factory.mktemp("zoo"))
    assert sorted(files) == sorted(ZOO)
    return files


def decode_all(path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return list(container.decode(video=0))


def pictures(frames) -> list[np.ndarray]:
    return [frame.to_ndarray(format="rgb24") for frame in frames]


@pytest.mark.parametrize("name", ZOO)
def test_single_sparse_and_sequential_reads_give_the_decoders_frames(zoo, name):
    expected = pictures(decode_all(zoo[name]))
    draw = random.Random(0)
    with open_video(zoo[name]) as video:
        count = video.num_frames
        assert count == len(expected) > 1
        assert all(first < second for first, second in zip(video.times, video.times[1:]))
        reads = [[number] for number in draw.sample(range(count), 6)] + [[0], [count - 1]]
        reads += [list(range(count)), list(range(1, count, 3)), draw.sample(range(count), min(5, count))]
        for indices in reads:
            for index, frame in zip(indices, video.frames(indices), strict=True):
                assert np.array_equal(frame.numpy(), expected[index]), f"frame {index} of {indices}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_single_frame(zoo, name):
    expected = pictures(decode_all(zoo[name]))
    with open_video(zoo[name]) as video:
        for index, picture in enumerate(expected):
            assert np.array_equal(video.frames([index])[0].numpy(), picture)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg program to compare with")
# Versions of FFmpeg differ in how they convert colors, and in what they show before the first key frame.
@pytest.mark.parametrize("name", sorted({*ZOO} - {"animation.gif", "mjpeg.avi"} - {*STARTS_IN_OPEN_GOP}))
def test_the_ffmpeg_program_gives_the_same_frames(zoo, name):
    command = ["ffmpeg", "-v", "quiet", "-i", str(zoo[name]), "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()
    theirs = [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]
    with open_video(zoo[name]) as video:
        frames = [frame for _, frame in video.decode(range(video.num_frames))]
        ours = [hashlib.md5(frame.to_ndarray().tobytes()).hexdigest() for frame in frames]
    assert ours == theirs


def test_import_refuses_none_of_them_and_keeps_every_frame(zoo, tmp_path):
    (tmp_path / "mine" / "class").mkdir(parents=True)
    names = {name.replace(".", "_"): name for name in zoo}
    for stem, name in names.items():
        shutil.copy(zoo[name], tmp_path / "mine" / "class" / f"{stem}{zoo[name].suffix}")
    report = import_videos(str(tmp_path / "mine"), tmp_path / "root", max_lost_share=0, num_workers=0)
    assert "LOST" not in report
    videos = [video for split in ("train", "val") for video in read_index(tmp_path / "root", split)]
    assert len(videos) == len(zoo)
    for video in videos:
        name = names[video.path.stem]
        expected = pictures(decode_all(zoo[name]))
        assert video.num_frames == len(expected), name
        assert numbers_of(pictures(decode_all(video.path))) == numbers_of(expected), name


def test_what_the_packer_writes_is_what_it_says(zoo):
    with av.open(str(zoo["packed.avi"])) as container:
        stream = container.streams.video[0]
        contents = [bytes(packet) for packet in container.demux(stream) if packet.size]
        times = [packet.pts for packet in _packets(zoo["packed.avi"])]
    assert len(contents) == len(decode_all(zoo["packed.avi"])) == NUM_FRAMES
    assert max(content.count(b"\x00\x00\x01\xb6") for content in contents) == 2
    assert min(len(content) for content in contents) < 10
    shown = [frame.pts for frame in decode_all(zoo["packed.avi"])]
    assert len(set(times)) == len(times) and shown != sorted(shown)
    assert len(_packets(zoo["not_coded.mp4"])) == len(decode_all(zoo["not_coded.mp4"])) + 3
    assert len(_packets(zoo["fields.ts"])) == 2 * len(decode_all(zoo["fields.ts"]))
    assert len(_packets(zoo["hidden_frames.webm"])) >= NUM_FRAMES
    assert any(packet.is_discard for packet in _packets(zoo["edit_list_h264.mp4"]))


def _packets(path) -> list:
    with av.open(str(path)) as container:
        return scan(container, container.streams.video[0], lambda count: None)


def test_where_packets_are_frames_is_found_by_looking(zoo):
    found = set()
    for name, path in zoo.items():
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if are_frames(_packets(path), container, stream):
                found.add(name)
    assert found >= RANDOM_ACCESS
    assert not found & {*FIELDS, "packed.mp4", "packed.avi", "not_coded.mp4", "b_frames_without_times.mp4"}
    assert "h264_without_times.mp4" not in found


def test_a_suffix_decides_nothing(zoo, tmp_path):
    for name, other in (("packed.avi", "packed.mp4"), ("h264.mp4", "h264.avi")):
        shutil.copy(zoo[name], tmp_path / other)
        with open_video(zoo[name]) as video, open_video(tmp_path / other) as renamed:
            assert renamed.times == video.times


def test_times_are_those_at_which_frames_are_shown(zoo):
    for name in ("packed.avi", "packed.mp4", "b_frames.avi", "b_frames_without_times.mp4", "mpeg2.mpg", "mpeg2.ts"):
        with open_video(zoo[name]) as video:
            assert video.times == pytest.approx(np.arange(NUM_FRAMES) / 25, abs=1e-3), name
    for name in ("not_coded.avi", "not_coded.mp4", "not_coded.mkv"):
        with open_video(zoo[name]) as video:
            # Pictures that are not coded keep the previous one on the screen.
            assert np.diff(video.times).round(2).tolist().count(0.08) == 1
            assert np.diff(video.times).round(2).tolist().count(0.12) == 1


CUT = ["mpeg1.mpg", "mpeg2.mpg", "mpeg2.ts", "mpeg2.mkv", "mjpeg.avi", "animation.gif", "h264.ts", "h264.mkv"]
CUT += ["ffv1.mkv", "flv1.flv", "packed.avi", "not_coded.avi", "fields.ts"]


@pytest.mark.parametrize("name", CUT)
def test_a_truncated_file_gives_no_frame_that_was_not_filmed(zoo, tmp_path, name):
    content, expected = zoo[name].read_bytes(), {image.tobytes() for image in pictures(decode_all(zoo[name]))}
    draw, path = random.Random(1), tmp_path / name
    num_given = 0
    for _ in range(8):
        path.write_bytes(content[: draw.randrange(len(content) // 3, len(content) - 1)])
        try:
            with open_video(path) as video:
                for index in range(max(0, video.num_frames - 3), video.num_frames):
                    try:
                        [frame] = video.frames([index])
                    except VideoDecodingError as error:
                        assert f"{name} is damaged: frame {index}" in str(error)
                        continue
                    num_given += 1
                    assert frame.numpy().tobytes() in expected, f"frame {index} of {video.num_frames}"
        except VideoDecodingError as error:
            assert name in str(error)
    assert num_given


def test_a_raw_stream_that_ends_in_its_last_picture_gives_what_the_decoder_gives(zoo, tmp_path):
    """It does not say how long it is: a picture that the decoder takes for whole is shown, all others are errors."""
    content, path = zoo["raw.h264"].read_bytes(), tmp_path / "cut.h264"
    num_given = num_refused = 0
    for missing in range(1, 25):
        path.write_bytes(content[:-missing])
        decoded = decode_all(path)
        with open_video(path) as video:
            assert video.num_frames == len(decoded)
            for index in (video.num_frames - 2, video.num_frames - 1):
                try:
                    [frame] = video.frames([index]).numpy()
                except VideoDecodingError as error:
                    assert decoded[index].is_corrupt and f"frame {index} cannot be decoded" in str(error)
                    num_refused += 1
                else:
                    assert np.array_equal(frame, decoded[index].to_ndarray(format="rgb24"))
                    num_given += 1
    assert num_given and num_refused
