"""TFRecord files of tf.train.Example messages, written from the published formats with a bitwise checksum."""

import struct


def crc32c(data):
    """CRC-32C (RFC 3720), one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def record(data):
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def varint(value):
    value %= 2**64
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def field(number, content, wire=2):
    size = varint(len(content)) if wire == 2 else b""
    return varint(number * 8 + wire) + size + content


def feature(values, packed=True):
    if isinstance(values[0], bytes):
        return field(1, b"".join(field(1, value) for value in values))
    if isinstance(values[0], float):
        encoded, wire, number = [struct.pack("<f", value) for value in values], 5, 2
    else:
        encoded, wire, number = [varint(value) for value in values], 0, 3
    if packed:
        return field(number, field(1, b"".join(encoded)))
    return field(number, b"".join(field(1, value, wire) for value in encoded))


def example(packed=True, **features):
    entries = (
        field(1, field(1, name.encode()) + field(2, feature(values, packed)))
        for name, values in features.items()
    )
    return field(1, b"".join(entries))


def write(path, examples):
    path.write_bytes(b"".join(map(record, examples)))
    return path
