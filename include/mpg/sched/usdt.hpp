// Probes as SystemTap, bpftrace and perf know them (USDT): a nop, and a note in the file that says where it is, what it is called
// and where its arguments are. A tracer puts a breakpoint in the nop's place; nobody else reads the note.
//
// The notes are those of <sys/sdt.h> (https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation, version 3, without
// semaphores), which need not be installed for these few lines. That header also writes its assembly in a way by whose length
// compilers judge it, and no longer inline functions that have probes; `asm inline` says that it is one nop.
#pragma once

#include <mpg/base/config.hpp>

#if defined(__ELF__) && (defined(__x86_64__) || defined(__aarch64__)) && !defined(MPG_UNOBSERVED)

// The argument number n: its size, unsigned, and where it is: a constant, in a register or in memory.
#define MPG_USDT_ARGUMENT(n) "%c[size" #n "]@%[at" #n "]"
#define MPG_USDT_OPERANDS(n, x) [size##n] "n"(sizeof(x)), [at##n] "nor"(x)

// 990: the probe. 991 to 993: the note's owner; to 994: its contents. The symbol tells by how much prelink has moved the file.
// "?": the note belongs to the group of the function that has the probe, and goes with it.
#define MPG_USDT(name, arguments, ...)                                                                                \
    do {                                                                                                              \
        asm inline volatile("990: nop\n"                                                                              \
                            ".pushsection .note.stapsdt,\"?\",\"note\"\n"                                             \
                            ".balign 4\n"                                                                             \
                            ".4byte 992f-991f, 994f-993f, 3\n"                                                        \
                            "991: .asciz \"stapsdt\"\n"                                                               \
                            "992: .balign 4\n"                                                                        \
                            "993: .8byte 990b\n"                                                                      \
                            ".8byte _.stapsdt.base\n"                                                                 \
                            ".8byte 0\n"                                                                              \
                            ".asciz \"mpg\"\n"                                                                        \
                            ".asciz \"" name "\"\n"                                                                   \
                            ".asciz \"" arguments "\"\n"                                                              \
                            "994: .balign 4\n"                                                                        \
                            ".popsection\n"                                                                           \
                            ".ifndef _.stapsdt.base\n"                                                                \
                            ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"                   \
                            ".weak _.stapsdt.base\n"                                                                  \
                            ".hidden _.stapsdt.base\n"                                                                \
                            "_.stapsdt.base: .space 1\n"                                                              \
                            ".size _.stapsdt.base, 1\n"                                                               \
                            ".popsection\n"                                                                           \
                            ".endif\n"                                                                                \
                            :                                                                                         \
                            : __VA_ARGS__);                                                                           \
    } while (false)

#define MPG_PROBE1(name, a) MPG_USDT(#name, MPG_USDT_ARGUMENT(1), MPG_USDT_OPERANDS(1, a))
#define MPG_PROBE2(name, a, b)                                                                                                   \
    MPG_USDT(#name, MPG_USDT_ARGUMENT(1) " " MPG_USDT_ARGUMENT(2), MPG_USDT_OPERANDS(1, a), MPG_USDT_OPERANDS(2, b))
#define MPG_PROBE3(name, a, b, c)                                                                                                \
    MPG_USDT(#name, MPG_USDT_ARGUMENT(1) " " MPG_USDT_ARGUMENT(2) " " MPG_USDT_ARGUMENT(3), MPG_USDT_OPERANDS(1, a),             \
             MPG_USDT_OPERANDS(2, b), MPG_USDT_OPERANDS(3, c))

#else

#define MPG_PROBE1(name, a) static_cast<void>(a)
#define MPG_PROBE2(name, a, b) (static_cast<void>(a), static_cast<void>(b))
#define MPG_PROBE3(name, a, b, c) (static_cast<void>(a), static_cast<void>(b), static_cast<void>(c))

#endif
