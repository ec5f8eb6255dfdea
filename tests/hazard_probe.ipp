// Bodies of hazard_probe.hpp, for hazard_test.cpp and hazard_probe.cpp.
#include "hazard_probe.hpp"

#include <mpg/chan.hpp>
#include <mpg/task.hpp>

#include <cerrno>
#include <cfenv>
#include <exception>
#include <stdexcept>
#include <unistd.h>

namespace hazard {
namespace {

[[gnu::noinline]] ::pid_t thread_id() {
    asm volatile("" ::: "memory");
    return ::gettid();
}

struct tagged : std::runtime_error {
    explicit tagged(int t)
        : std::runtime_error("tagged")
        , tag(t) {}
    int tag;
};

void suspend(int round) {
    static const mpg::chan<int> exchange(1);
    if (round % 5 == 4) {
        // A send and a receive by everybody: whoever waits is readied by somebody else, mostly elsewhere.
        if (int v = 0; exchange.try_send(v) != mpg::chan_status::ok) exchange.try_recv(v);
    }
    mpg::yield();
}

} // namespace

std::string identity_over_switches(int rounds, unsigned long& moves) {
    const auto id = mpg::this_task::id();
    ::pid_t last = thread_id();
    mpg::this_task::set_name("probe-" + std::to_string(id));
    const std::string name(mpg::this_task::name());
    for (int i = 0; i < rounds; ++i) {
        suspend(i);
        if (mpg::this_task::id() != id) return "the task's id has changed";
        if (mpg::this_task::name() != name) return "the task's name has changed";
        if (!mpg::this_task::inside()) return "a task is told that it is none";
        ::pid_t now = thread_id();
        moves += now != last;
        last = now;
    }
    return {};
}

std::string rethrow_over_switches(int rounds, int mine) {
    for (int i = 0; i < rounds; ++i) {
        const int tag = mine * 100'000 + i;
        try {
            try {
                throw tagged(tag);
            } catch (const tagged& caught) {
                std::exception_ptr before = std::current_exception();
                suspend(i);
                if (caught.tag != tag) return "the caught object has changed";
                if (std::current_exception() != before) return "current_exception has changed";
                try {
                    throw -tag;
                } catch (int inner) {
                    suspend(i + 1);
                    if (inner != -tag) return "the inner exception has changed";
                }
                if (std::current_exception() != before)
                    return "current_exception after an inner one has changed";
                suspend(i);
                throw;
            }
        } catch (const tagged& again) {
            if (again.tag != tag) return "throw; has thrown somebody else's exception";
        } catch (...) {
            return "throw; has thrown an exception of another type";
        }
        if (std::current_exception()) return "an exception is left";
    }
    return {};
}

std::string uncaught_over_switches(int rounds) {
    struct suspends {
        std::string* error;
        int expected, round;
        ~suspends() {
            if (std::uncaught_exceptions() != expected) *error = "uncaught_exceptions before the suspension";
            suspend(round);
            if (std::uncaught_exceptions() != expected) *error = "uncaught_exceptions after the suspension";
            if (expected < 3) {
                try {
                    suspends nested{error, expected + 1, round};
                    throw expected;
                } catch (int v) {
                    if (v != expected) *error = "nested exception";
                }
            }
            if (std::uncaught_exceptions() != expected)
                *error = "uncaught_exceptions after a nested exception";
        }
    };
    std::string error;
    for (int i = 0; i < rounds && error.empty(); ++i) {
        try {
            suspends s{&error, 1, i};
            throw i;
        } catch (int v) {
            if (v != i) return "another exception was caught";
        }
        suspend(i);
        if (std::uncaught_exceptions() != 0) return "uncaught_exceptions outside";
    }
    return error;
}

std::string errno_over_switches(int rounds, int mine) {
    for (int i = 0; i < rounds; ++i) {
        errno = mine + i; // in one function with the wait: a compiler must not keep its address
        suspend(i);
        if (errno != mine + i) return "errno has changed";
    }
    return {};
}

std::string rounding_over_switches(int rounds, int mode) {
    if (std::fegetround() != FE_TONEAREST) return "a new task does not round to nearest";
    if (std::fesetround(mode) != 0) return "fesetround";
    volatile double one = 1, three = 3;
    const double expected = one / three;
    std::string error;
    for (int i = 0; i < rounds && error.empty(); ++i) {
        suspend(i);
        if (std::fegetround() != mode) error = "the rounding mode has changed";
        if (one / three != expected) error = "a division is rounded in another way";
    }
    return error; // and leaves its mode: the next task of this stack must not find it
}

} // namespace hazard
