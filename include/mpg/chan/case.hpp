// What a wait for several things is made of: the untyped cases.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/chan/core.hpp>
#include <mpg/sched/cancel.hpp>
#include <mpg/sched/wait.hpp>

#include <chrono>
#include <cstdint>

namespace mpg::channels {

struct channel_case;

/// What the untyped engine asks of a typed operation.
struct case_ops {
    /// Under the lock: go on if that is possible now.
    outcome (*attempt)(channel_case&) noexcept;
    /// After an attempt that was done, without locks: finishes it and wakes the peer. False: start over. May
    /// throw what an element's move throws.
    bool (*finish)(channel_case&);
    /// Fills in the node before it is linked.
    void (*prepare)(channel_case&, chan_waiter&) noexcept;
    /// After the strand was woken by way of the node. blocked: start over. May throw as finish does.
    outcome (*woken)(channel_case&, chan_waiter&);
};

enum class case_kind : std::uint8_t { channel, done, timeout, otherwise };

/// Lives in the frame (or set) of the one who selects; only its strand touches it, but for the node.
struct select_case {
    case_kind kind;

    explicit select_case(case_kind k) noexcept
        : kind(k) {}
    select_case(const select_case&) = delete;
    select_case& operator=(const select_case&) = delete;
};

/// A send or a receive.
struct channel_case : select_case {
    bool sends;
    bool at_front = false;             // a receiver that a failed transfer sent back: it keeps its place
    outcome result = outcome::blocked; // how it was chosen
    channel_core* core;                // null: a nil channel, never ready
    const case_ops* ops;
    chan_waiter* peer = nullptr; // between attempt and finish: ours
    union {
        chan_waiter node; // alive while the engine waits
    };

    channel_case(channel_core* c, bool s, const case_ops* o) noexcept
        : select_case(case_kind::channel)
        , sends(s)
        , core(c)
        , ops(o) {}
    ~channel_case() {}

    wait_queue& queue() const noexcept { return sends ? core->senders : core->receivers; }
    MPG_ALWAYS_INLINE bool looks_ready() const noexcept {
        return core && (sends ? core->looks_sendable() : core->looks_receivable());
    }
    /// The same with the lock, and a channel.
    MPG_ALWAYS_INLINE bool is_ready() const noexcept { return sends ? core->is_sendable() : core->is_receivable(); }
    void link(chan_waiter& n) const noexcept {
        if (at_front) [[unlikely]]
            queue().push_front(n);
        else
            queue().push_back(n);
    }
};

/// case_ops of a typed operation.
template <class Op>
inline constexpr case_ops ops_for{
    [](channel_case& c) noexcept { return static_cast<Op&>(c).attempt(); },
    [](channel_case& c) { return static_cast<Op&>(c).finish(); },
    [](channel_case& c, chan_waiter& n) noexcept { static_cast<Op&>(c).prepare(n); },
    [](channel_case& c, chan_waiter& n) { return static_cast<Op&>(c).woken(n); },
};

/// A context that may become done.
struct done_case : select_case, sched::cancel_hook {
    sched::cancel_source* source; // null: never done
    sched::multi_wait* multi = nullptr;
    std::uint32_t index = 0;
    bool subscribed = false;

    explicit done_case(sched::cancel_source* s) noexcept
        : select_case(case_kind::done)
        , source(s) {
        fire = [](sched::cancel_hook& hook) noexcept {
            auto& self = static_cast<done_case&>(hook);
            auto how = self.multi->claim(self.index);
            if (how != sched::multi_wait::claim_result::lost) self.multi->wake(how);
        };
    }
    bool looks_ready() const noexcept { return source && source->is_done(); }
};

/// A time-out, counted from the moment at which the select begins to wait.
struct timeout_case : select_case {
    std::chrono::nanoseconds after;

    explicit timeout_case(std::chrono::nanoseconds d) noexcept
        : select_case(case_kind::timeout)
        , after(d) {}
    bool looks_ready() const noexcept { return false; }
};

struct otherwise_case : select_case {
    otherwise_case() noexcept
        : select_case(case_kind::otherwise) {}
    bool looks_ready() const noexcept { return false; }
};

} // namespace mpg::channels
