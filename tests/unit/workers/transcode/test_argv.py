"""The command lines of ffmpeg, word by word: what they promise is in workers/transcode/argv.py."""

from pathlib import Path

import pytest

from events.kinds import AudioSpec, EncodeSpec, Source
from events.media import AudioPlan, Chunk, Rung, StreamingFormat, VideoPlan
from workers.transcode.accepted import CONTAINERS
from workers.transcode.argv import audio_argv, decode_argv, encode_argv
from workers.transcode.mixing import LIMITER

SOURCE = Source(object_key="uploads/x", size_bytes=1)
PLAN = VideoPlan(
    track=1,
    codec="h264",
    encoder="libx264",
    preset="veryfast",
    pixel_format="yuv420p",
    frame_rate="30000/1001",
    timescale=30000,
    segment_frames=180,
    start_ms=0,
    lead_ms=0,
    filters=("fps=fps=30000/1001:start_time=0:round=near",),
    rungs=(
        Rung(name="720p", width=1280, height=720, video_kbps=2500, audio_kbps=128),
        Rung(name="360p", width=640, height=360, video_kbps=600, audio_kbps=96),
    ),
    chunks=(),
)
CHUNK = Chunk(index=1, start_frame=1800, frames=1700, first_segment=10, segments=10)
SOUND = AudioSpec(
    source=SOURCE,
    format="cmaf",
    segment_ms=6006,
    start_ms=80,
    duration_ms=120_000,
    renditions=(
        AudioPlan(name="audio-2-128k", track=2, language="en", label="en", default=True, channels=2, kbps=128),
        AudioPlan(name="audio-2-96k", track=2, language="en", label="en", default=True, channels=2, kbps=96),
    ),
)
READING = (
    "ffmpeg -nostdin -hide_banner -y -v level+verbose -progress pipe:1 -nostats -stats_period 0.5 -max_error_rate 0.5 "
    f"-protocol_whitelist file -format_whitelist {CONTAINERS} "
)
PLAIN = "-map_metadata -1 -map_chapters -1 -fflags +bitexact -flags +bitexact "


def text(argv: list[str]) -> str:
    """Return a command on one line."""
    return " ".join(argv)


def encoding(plan: VideoPlan = PLAN, streaming_format: StreamingFormat = "cmaf", threads: int = 0) -> str:
    """Return the command that encodes the chunk."""
    spec = EncodeSpec(source=SOURCE, format=streaming_format, plan=plan, chunk=CHUNK)
    return text(encode_argv("ffmpeg", spec, Path("/in put"), Path("/out"), threads)[0])


def test_a_chunk_is_one_decode_and_an_output_for_each_rung() -> None:
    muxer = (
        "-output_ts_offset 60.060000 -avoid_negative_ts disabled -f hls -hls_time 6.006000 -hls_playlist_type vod "
        "-hls_flags temp_file+independent_segments -start_number 10 -hls_segment_type fmp4 "
        "-hls_segment_options movflags=+cmaf+frag_discont -hls_fmp4_init_filename init.mp4 "
    )
    x264 = "-x264-params scenecut=0:keyint=180:min-keyint=180:open-gop=0 -frames:v 1700 -r 30000/1001 -video_track_timescale 30000 "

    assert encoding() == (
        READING + "-threads 0 -copyts -seek_timestamp 1 -noaccurate_seek -ss 60.043317 -reinit_filter 0 -i file:/in put "
        "-filter_complex [0:1]settb=AVTB,setpts=PTS-(60.058037)/TB,scale,fps=fps=30000/1001:start_time=0:round=near,"
        "tpad=stop_mode=clone:stop=-1,split=2[sv0][sv1];"
        "[sv0]scale=1280:720:flags=bicubic,setsar=1,format=yuv420p[v0];"
        "[sv1]scale=640:360:flags=bicubic,setsar=1,format=yuv420p[v1] "
        "-map [v0] -c:v libx264 -preset veryfast -pix_fmt yuv420p -threads 0 -b:v 2500k -maxrate 3750k -bufsize 5000k "
        + x264
        + PLAIN
        + muxer
        + "-hls_segment_filename /out/720p/%05d.m4s /out/720p/index.m3u8 "
        "-map [v1] -c:v libx264 -preset veryfast -pix_fmt yuv420p -threads 0 -b:v 600k -maxrate 900k -bufsize 1200k "
        + x264
        + PLAIN
        + muxer
        + "-hls_segment_filename /out/360p/%05d.m4s /out/360p/index.m3u8"
    )


def test_legacy_segments_start_on_a_clock_that_never_runs_below_zero() -> None:
    line = encoding(streaming_format="hls_ts")

    assert "-output_ts_offset 70.060000 " in line
    assert "-hls_segment_type mpegts -hls_segment_options mpegts_flags=+initial_discontinuity " in line
    assert "%05d.ts " in line and "init.mp4" not in line


@pytest.mark.parametrize(
    ("encoder", "codec", "expected"),
    [
        (
            "libx265",
            "hevc",
            "-b:v 600k -maxrate 900k -bufsize 1200k -tag:v hvc1 "
            "-x265-params log-level=error:info=0:wpp=1:scenecut=0:keyint=180:min-keyint=180:open-gop=0:pools=2 ",
        ),
        ("libsvtav1", "av1", "-b:v 600k -svtav1-params keyint=180:scd=0:irefresh-type=2:rc=1:lp=2 "),
        ("h264_nvenc", "h264", "-b:v 600k -maxrate 900k -bufsize 1200k -g 180 -bf 0 -forced-idr 1 -no-scenecut 1 "),
        ("hevc_qsv", "hevc", "-b:v 600k -maxrate 900k -bufsize 1200k -g 180 -bf 0 -idr_interval 0 -forced_idr 1 "),
        ("h264_vaapi", "h264", "-c:v h264_vaapi -b:v 600k -maxrate 900k -bufsize 1200k -g 180 -bf 0 "),
    ],
)
def test_every_encoder_makes_closed_groups_of_one_segment(encoder: str, codec: str, expected: str) -> None:
    plan = PLAN.model_copy(update={"encoder": encoder, "codec": codec})

    assert expected in encoding(plan, threads=2)


def test_pictures_are_loaded_into_the_hardware_that_wants_them_there() -> None:
    line = encoding(PLAN.model_copy(update={"encoder": "h264_vaapi"}))

    assert "-init_hw_device vaapi=hw:/dev/dri/renderD128 -filter_hw_device hw " in line
    assert line.count("format=nv12,hwupload") == 2
    assert "-preset" not in line and "-pix_fmt" not in line


def test_threads_bound_decoder_filters_and_encoders() -> None:
    line = encoding(threads=3)

    assert line.count("-threads 3 ") == 3
    assert "-filter_complex_threads 3 " in line


def test_sound_is_brought_to_one_format_before_it_is_timed() -> None:
    argv, outputs = audio_argv("ffmpeg", SOUND, Path("/in"), Path("/out"))
    muxer = (
        "-f hls -hls_time 6.006000 -hls_playlist_type vod -hls_flags temp_file+independent_segments -start_number 0 "
        "-hls_segment_type fmp4 -hls_segment_options movflags=+cmaf -hls_fmp4_init_filename init.mp4 "
    )

    assert text(argv) == (
        READING + "-threads 1 -copyts -i file:/in "
        "-map 0:2 -af asetpts=PTS-(0.080000)/TB,aformat=sample_fmts=flt:sample_rates=48000:channel_layouts=stereo "
        "-c:a pcm_f32le -f null - -dec 0:0 -filter_complex_threads 1 "
        "-filter_complex [dec:0]aresample=async=1000:first_pts=0," + LIMITER + ",aformat=sample_fmts=fltp,apad,"
        "atrim=start_sample=1024,asetpts=N/SR/TB,asplit=2[a0][a1] "
        "-map [a0] -c:a aac -b:a 128k -t 120.000000 "
        + PLAIN
        + muxer
        + "-hls_segment_filename /out/audio-2-128k/%05d.m4s /out/audio-2-128k/index.m3u8 "
        "-map [a1] -c:a aac -b:a 96k -t 120.000000 " + PLAIN + muxer + "-hls_segment_filename /out/audio-2-96k/%05d.m4s "
        "/out/audio-2-96k/index.m3u8"
    )
    assert [(output.name, output.kind, output.suffix) for output in outputs] == [
        ("audio-2-128k", "audio", ".m4s"),
        ("audio-2-96k", "audio", ".m4s"),
    ]


def test_legacy_sound_starts_on_the_clock_of_the_pictures() -> None:
    argv, _ = audio_argv("ffmpeg", SOUND.model_copy(update={"format": "hls_ts"}), Path("/in"), Path("/out"))

    assert "-output_ts_offset 10.021333 -avoid_negative_ts disabled " in text(argv)


def test_checking_ends_at_the_first_fault() -> None:
    assert text(decode_argv("ffmpeg", ".m4s", 1)) == (
        "ffmpeg -hide_banner -v level+error -xerror -protocol_whitelist pipe -threads 1 -skip_loop_filter all "
        "-err_detect explode -f mp4 -i pipe:0 -progress pipe:1 -nostats -stats_period 0.5 -f null -"
    )
