// A filter on system calls, by hand: what containers do to a process. Call it in a child process; it cannot be undone.
#pragma once

#include "support.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mpg::test {

/// From now on the system call `number` fails with `error` on all threads of this process; where `argument` is given (0 to 5), only when
/// the low half of that argument is `value`.
inline void refuse(long number, int error, int argument = -1, unsigned value = 0) {
    const auto at = static_cast<unsigned>(offsetof(::seccomp_data, args)) + 8 * static_cast<unsigned>(argument < 0 ? 0 : argument);
    ::sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(::seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0),
        // An argument of another value passes; without one to look at all calls are refused.
        argument < 0 ? ::sock_filter BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0) : ::sock_filter BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    ::sock_fprog program{sizeof filter / sizeof *filter, filter};
    ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ASSERT_EQ(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program), 0);
}

/// Runs f in a child process and expects it to pass without a failure.
template <class F> void passes_in_child(F f) {
    const auto child = run_in_child([&] {
        f();
        return ::testing::Test::HasFailure() ? 1 : 0;
    });
    EXPECT_EQ(child.exit_code, 0) << child;
}

} // namespace mpg::test
