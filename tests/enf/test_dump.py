"""The text form of a program."""

from dataclasses import replace

from furiosa.enf import dump
from support.programs import a_program

EXPECTED = """\
program 'draft' for warboy-2pe, batch 1
compiler '0.1.0', source 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
memory dram 2048, sram 448
input %0 'x0'
output %4 'y0'
buffer %0 float32[1, 3, 8, 8] at dram+0 't0'
buffer %1 int8[1, 3, 8, 8] at sram+0 't1'
buffer %2 int8[1, 4, 8, 8] at sram+192 't2'
buffer %3 float32[1, 4, 8, 8] at dram+0 't3'
buffer %4 float32[1, 4, 8, 8] at dram+1024 't4'
constant $0 float32[1]
constant $1 int8[4, 3, 3, 3]
constant $2 int32[4]
constant $3 float32[4]
constant $4 uint8[GRAPH]
npu
  0: %1 = quantize %0 multiplier $0 zero_out 3 clamp -128..127 pes 0b1  # 'node0'
  1: %2 = conv2d %1 weights $1 bias $2 multiplier $3 zero0 3 zero1 0 zero_out -20 clamp -20..127 \
kernel 3x3 strides 1x1 pads 1x1x1x1 dilations 1x1 group 1 pes 0b11  # 'node1'
  2: %3 = dequantize %2 multiplier $0 zero0 -20 pes 0b1  # 'node2'
host
  %4 = $4(%3)
"""


def test_a_program_as_text() -> None:
    program = a_program(host=True)
    size = program.constants[4].size
    assert dump(program) == EXPECTED.replace("GRAPH", str(size))


def test_strings_of_the_file_cannot_steer_a_terminal() -> None:
    text = dump(replace(a_program(), name="\x1b[2J\nprogram"))
    assert "\x1b" not in text
    assert text.startswith(r"program '\x1b[2J\nprogram' for warboy-2pe")
