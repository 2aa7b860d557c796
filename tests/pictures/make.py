"""Makes the pictures in formats/ beside this file, and NAME.expected.png: what Pillow's convert("RGB") makes of each.

python tests/pictures/make.py    (Pillow 13, numpy; every byte of a file is decided here or by Pillow's encoders)
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).parent / "formats"
WIDTH, HEIGHT = 21, 13
random = np.random.default_rng(7)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(rows, depth):
    """Rows of samples as PNG's scan lines, filter 0."""
    out = b""
    for row in rows:
        row = np.asarray(row).reshape(-1)
        if depth == 16:
            line = row.astype(">u2").tobytes()
        else:
            bits = "".join(format(int(value), f"0{depth}b") for value in row)
            bits += "0" * (-len(bits) % 8)
            line = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
        out += b"\0" + line
    return out


def png(samples, kind, depth, transparent=None, palette=None, interlaced=False):
    """samples: [H, W, channels]; kind is PNG's colour type."""
    height, width = samples.shape[:2]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        parts = [samples[y::dy, x::dx] for y, x, dy, dx in passes]
        data = b"".join(packed(part, depth) for part in parts if part.size)
    else:
        data = packed(samples, depth)
    out = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))
    )
    if palette is not None:
        out += chunk(b"PLTE", bytes(palette))
    if transparent is not None:
        out += chunk(b"tRNS", transparent)
    return out + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def bmp(bits, lines, palette=b"", compression=0, masks=b"", height=HEIGHT):
    """lines: the rows as they lie in the file, padded to 4 bytes here unless they are compressed."""
    body = lines if compression == 1 else b"".join(line + b"\0" * (-len(line) % 4) for line in lines)
    start = 14 + 40 + len(masks) + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(body), 2835, 2835, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + masks + palette + body


def encoded(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def pictures():
    deep = random.integers(0, 65536, (HEIGHT, WIDTH, 4))
    # Gray values around those where roundings and clippings differ.
    edges = np.array([0, 1, 127, 128, 254, 255, 256, 257, 383, 384, 511, 512, 32767, 32768, 65279, 65280, 65535])
    gray = edges[random.integers(0, len(edges), (HEIGHT, WIDTH, 1))]
    deep[:2, :, :] = edges[random.integers(0, len(edges), (2, WIDTH, 4))]
    yield "gray_16.png", png(gray, 0, 16)
    yield "gray_16_transparent.png", png(gray, 0, 16, transparent=struct.pack(">H", 256))
    yield "gray_alpha_16.png", png(deep[:, :, :2], 4, 16)
    yield "rgb_16.png", png(deep[:, :, :3], 2, 16)
    yield "rgb_16_transparent.png", png(deep[:, :, :3], 2, 16, transparent=deep[3, 3, :3].astype(">u2").tobytes())
    yield "rgba_16.png", png(deep, 6, 16)
    yield "rgb_16_interlaced.png", png(deep[:, :, :3], 2, 16, interlaced=True)
    yield "gray_16_interlaced.png", png(gray, 0, 16, interlaced=True)
    for depth in [1, 2, 4, 8]:
        values = random.integers(0, 1 << depth, (HEIGHT, WIDTH, 1))
        yield f"gray_{depth}.png", png(values, 0, depth)
        yield f"gray_{depth}_interlaced.png", png(values, 0, depth, interlaced=True)
        yield f"gray_{depth}_transparent.png", png(values, 0, depth, transparent=struct.pack(">H", 1))
        colours = random.integers(0, 256, 3 << depth).astype(np.uint8)
        alpha = random.integers(0, 256, 1 << max(depth - 1, 0)).astype(np.uint8)
        yield f"palette_{depth}.png", png(values, 3, depth, palette=colours)
        yield f"palette_{depth}_transparent.png", png(
            values, 3, depth, palette=colours, transparent=bytes(alpha), interlaced=True
        )
    low = (deep >> 8).astype(np.uint8)
    yield "rgb_8_transparent.png", png(low[:, :, :3], 2, 8, transparent=low[3, 3, :3].astype(">u2").tobytes())
    yield "gray_alpha_8.png", png(low[:, :, :2], 4, 8)
    yield "rgba_8_interlaced.png", png(low, 6, 8, interlaced=True)

    for name, bits, masks in [
        ("bmp_555.bmp", 16, b""),
        ("bmp_565.bmp", 16, struct.pack("<III", 0xF800, 0x07E0, 0x001F)),
        ("bmp_32.bmp", 32, b""),
    ]:
        values = random.integers(0, 256, (HEIGHT, WIDTH, bits // 8)).astype(np.uint8)
        yield name, bmp(bits, [row.tobytes() for row in values], compression=3 if masks else 0, masks=masks)
    for bits in [1, 4, 8]:
        values = random.integers(0, 1 << bits, (HEIGHT, WIDTH))
        colours = np.zeros((1 << bits, 4), np.uint8)
        colours[:, :3] = random.integers(0, 256, (1 << bits, 3))
        lines = [packed([row], bits)[1:] for row in values]
        yield f"bmp_{bits}.bmp", bmp(bits, lines, palette=colours.tobytes())
        if bits == 8:
            runs = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in values) + b"\0\1"
            yield "bmp_run_length.bmp", bmp(bits, runs, palette=colours.tobytes(), compression=1)
    yield "bmp_top_down.bmp", bmp(24, [row.tobytes() for row in low[:, :, :3]], height=-HEIGHT)

    wave = np.add.outer(np.arange(HEIGHT * 3) * 5, np.arange(WIDTH * 3) * 3)[:, :, None] * np.array([1, 2, 1]) // 4 % 230
    photo = Image.fromarray(wave.astype(np.uint8))
    yield "plain.gif", encoded(photo.quantize(16), "GIF")
    yield "interlaced.gif", encoded(photo.quantize(16), "GIF", interlace=1)
    yield "transparent.gif", encoded(photo.quantize(16), "GIF", transparency=3)
    frames = [photo.quantize(8), photo.transpose(Image.Transpose.ROTATE_180).quantize(8)]
    yield "moving.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "lossless.webp", encoded(photo, "WEBP", lossless=True)
    with_alpha = photo.copy()
    with_alpha.putalpha(Image.fromarray(wave[:, :, 0].astype(np.uint8)))
    yield "lossless_alpha.webp", encoded(with_alpha, "WEBP", lossless=True, exact=True)
    yield "lossy.webp", encoded(photo, "WEBP", quality=80)
    yield "lossy_alpha.webp", encoded(with_alpha, "WEBP", quality=80, exact=True)
    for name, options in [
        ("444", {"subsampling": 0}),
        ("422", {"subsampling": 1}),
        ("420", {"subsampling": 2}),
        ("progressive", {"progressive": True, "subsampling": 0}),
        ("progressive_420", {"progressive": True, "subsampling": 2}),
        ("restarts", {"restart_marker_blocks": 3, "subsampling": 0}),
        ("as_rgb", {"keep_rgb": True}),
        ("optimised", {"optimize": True, "subsampling": 0}),
    ]:
        yield f"{name}.jpg", encoded(photo, "JPEG", quality=85, **options)
    yield "gray.jpg", encoded(photo.convert("L"), "JPEG", quality=85)
    yield "gray_progressive.jpg", encoded(photo.convert("L"), "JPEG", quality=85, progressive=True)
    yield "cmyk.jpg", encoded(photo.convert("CMYK"), "JPEG", quality=85)


OUT.mkdir(exist_ok=True)
for name, data in pictures():
    (OUT / name).write_bytes(data)
    with Image.open(io.BytesIO(data)) as picture:
        expected = Image.fromarray(np.asarray(picture.convert("RGB")))  # the levels alone, no notes
        expected.save(OUT / f"{name}.expected.png", optimize=True)
