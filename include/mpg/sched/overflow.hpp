// A task that overruns its stack runs into the guard below it: say which one it is, and let the process die of SIGSEGV,
// so that core dumps work.
//
// The handler runs on the alternate stack of the machine's thread. It writes what it knows without allocating before
// it walks the stack: the task may have been inside malloc. Any other fault is left to the handler that was there
// before, or to the system. A frame larger than the guard can jump over it: compile with -fstack-clash-protection, or
// ask for a larger options::guard_size.
#pragma once

#include <mpg/sched/fatal.hpp>

#include <csignal>
#include <unwind.h>

namespace mpg::sched {

class [[gnu::visibility("default")]] overflow_handler {
  public:
    /// Once per process. Sanitizers report faults themselves.
    static void install() noexcept {
        if (base::asan || base::tsan) return;
        static const bool installed = [] {
            struct sigaction ours {};
            ours.sa_sigaction = &handle;
            ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
            ::sigemptyset(&ours.sa_mask);
            return ::sigaction(SIGSEGV, &ours, &before()) == 0;
        }();
        static_cast<void>(installed);
    }

  private:
    static struct sigaction& before() noexcept {
        static struct sigaction old;
        return old;
    }

    static void handle(int signal, ::siginfo_t* info, void* context) {
        const int saved = errno;
        const machine* m = this_machine();
        const task* t = m && m->rt ? m->cur : nullptr;
        if (info->si_code > 0 && t && t->stack && m->rt->stacks.in_guard(t->stack, info->si_addr)) {
            report(*t, m->rt->stacks.slot_bytes());
            ::signal(signal, SIG_DFL); // the fault comes again
        } else {
            leave_to_others(signal, info, context);
        }
        errno = saved;
    }
    static void leave_to_others(int signal, ::siginfo_t* info, void* context) {
        const struct sigaction& old = before();
        if ((old.sa_flags & SA_SIGINFO) && old.sa_sigaction) return old.sa_sigaction(signal, info, context);
        if (!(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_IGN && info->si_code <= 0) return;
        if (!(old.sa_flags & SA_SIGINFO) && old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN)
            return old.sa_handler(signal);
        ::signal(signal, SIG_DFL);
        if (info->si_code <= 0) ::raise(signal); // sent by somebody: it does not come again by itself
    }

    static void say(const char* text) noexcept {
        [[maybe_unused]] auto n = ::write(2, text, std::strlen(text));
    }
    static void report(const task& t, std::size_t stack_bytes) noexcept {
        char text[256];
        std::snprintf(text, sizeof text, "fatal error: task %llu stack overflow\n\ntask %llu",
                      static_cast<unsigned long long>(t.id), static_cast<unsigned long long>(t.id));
        say(text);
        if (t.extras && !t.extras->name.empty()) { // its own to write, and it stands still
            say(" \"");
            say(t.extras->name.c_str());
            say("\"");
        }
        std::snprintf(text, sizeof text, " [running], stack of %zu KiB, created by task %llu at ", stack_bytes >> 10,
                      static_cast<unsigned long long>(t.parent));
        say(text);
        say_site(t.created_at);
        int left = 50;
        ::_Unwind_Backtrace(
            [](::_Unwind_Context* frame, void* arg) {
                auto& more = *static_cast<int*>(arg);
                const auto ip = ::_Unwind_GetIP(frame);
                if (ip == 0 || more-- == 0) return ::_URC_END_OF_STACK;
                say("    ");
                say_site(reinterpret_cast<const void*>(ip));
                return ::_URC_NO_REASON;
            },
            &left);
        if (left < 0) say("    ...\n");
    }
    static void say_site(const void* code) noexcept {
        if (the_report_writer().site) {
            try {
                say(describe_site(code).c_str());
            } catch (...) {
            }
        } else {
            char text[128];
            write_site(text, sizeof text, code);
            say(text);
        }
        say("\n");
    }
};

} // namespace mpg::sched
