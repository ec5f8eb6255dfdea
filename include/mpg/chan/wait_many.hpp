// The engine of select and of the timed and cancellable forms. After Go's runtime/select.go.
//
//   pass 1  lock all channels in the order of their addresses, each once; choose at random among the cases
//   that are
//           ready. So the answer "none is ready" is true of one moment, and each ready case is equally
//           likely.
//   pass 2  link a waiter for each case, in random order where several stand on one channel, so that each of
//   them is
//           equally likely to be found first; unlock; arm the timer and subscribe to the contexts, whose
//           locks come before those of channels; park.
//   pass 3  whoever claimed the multi_wait has served one case and unlinked its waiter. Take the rest back,
//   one
//           lock at a time. A waiter that is not queued any more was dropped by somebody who lost the claim,
//           and who does not touch it again: it needs no lock.
//
// Nothing is allocated: the caller brings the scratch arrays. Cost of a wait: two locks for each channel, a
// compare-exchange to park and one of the waker.
#pragma once

#include <mpg/base/random.hpp>
#include <mpg/chan/case.hpp>
#include <mpg/sched/timer.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

namespace mpg::channels {

/// cases in the order of the indices that select returns; order and locks have room for `size` entries.
struct case_table {
    select_case* const* cases;
    std::uint32_t size;
    std::uint32_t* order;
    channel_core** locks;
};

class many_wait {
  public:
    static void commit(void* arg) noexcept { static_cast<parked*>(arg)->multi.commit(); }
    static bool abort(void* arg) noexcept {
        return static_cast<parked*>(arg)->multi.claim(none) != sched::multi_wait::claim_result::lost;
    }
    static void look(void* arg, sched::wait_view& v) noexcept {
        auto& p = *static_cast<parked*>(arg);
        v.private_argument = true;
        v.pending = p.multi.is_pending();
        p.of.each_channel([&](channel_case& c, std::uint32_t) { c.core->show(v); });
    }

    MPG_ALWAYS_INLINE many_wait(const case_table& table, const sched::park_ops& ops) noexcept
        : t_(table)
        , ops_(ops) {
        for (std::uint32_t i = 0; i < t_.size; ++i) {
            select_case& c = *t_.cases[i];
            switch (c.kind) {
            case case_kind::channel:
                if (channel_core* core = static_cast<channel_case&>(c).core) {
                    t_.order[channels_] = i;
                    t_.locks[channels_++] = core;
                }
                break;
            case case_kind::done:
                dones_ += static_cast<done_case&>(c).source != nullptr;
                break;
            case case_kind::timeout:
                shorten(i, static_cast<timeout_case&>(c).after);
                break;
            case case_kind::otherwise:
                otherwise_ = i;
            }
        }
        sort_locks();
    }

    /// Returns the index of the case that went on; a channel case then has its result. May suspend unless
    /// there is an otherwise. Throws what a move throws.
    MPG_NOINLINE std::uint32_t run() {
        for (;;) {
            if (otherwise_ == none) sched::suspension_point();
            bool late = otherwise_ != none || expired();
            lock_all();
            std::uint32_t chosen = poll();
            if (chosen == none && !late) {
                chosen = wait_unlocking();
                if (chosen != none) return chosen;
                continue;
            }
            unlock_all();
            if (chosen == none) return otherwise_ != none ? otherwise_ : timeout_;
            if (finish(chosen)) return chosen;
        }
    }

  private:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    struct alarm : sched::timer_node {
        sched::multi_wait& multi;
        std::uint32_t index;
        alarm(sched::multi_wait& m, std::uint32_t i) noexcept
            : multi(m)
            , index(i) {
            of_wait = true;
            fire = [](sched::timer_node& node) noexcept {
                auto& self = static_cast<alarm&>(node);
                auto how = self.multi.claim(self.index);
                if (how != sched::multi_wait::claim_result::lost) self.multi.wake(how);
            };
        }
    };

    channel_case& channel(std::uint32_t i) const noexcept { return static_cast<channel_case&>(*t_.cases[i]); }
    bool is(std::uint32_t i, case_kind k) const noexcept { return t_.cases[i]->kind == k; }
    template <class F> MPG_ALWAYS_INLINE void each_channel(F f) const {
        for (std::uint32_t k = 0; k < channels_; ++k) f(channel(t_.order[k]), t_.order[k]);
    }
    template <class F> MPG_ALWAYS_INLINE void each_done(F f) const {
        if (dones_ == 0) [[likely]]
            return;
        for (std::uint32_t i = 0; i < t_.size; ++i)
            if (is(i, case_kind::done) && static_cast<done_case&>(*t_.cases[i]).source)
                f(static_cast<done_case&>(*t_.cases[i]), i);
    }

    void shorten(std::uint32_t i, std::chrono::nanoseconds after) noexcept {
        if (timeout_ != none && after >= after_) return;
        timeout_ = i;
        after_ = after;
    }
    // The clock is read only by a select that waits or was sent back. A time-out of zero is a poll.
    bool expired() noexcept {
        if (timeout_ == none) return false;
        if (after_.count() <= 0) return true;
        if (deadline_ != base::never) return base::now() >= deadline_;
        deadline_ = base::deadline_after(after_);
        return false;
    }

    MPG_NOINLINE static void sort_many(channel_core** begin, channel_core** end) noexcept {
        std::sort(begin, end, std::less<channel_core*>());
    }
    MPG_ALWAYS_INLINE void sort_locks() noexcept {
        channel_core **begin = t_.locks, **end = begin + channels_;
        if (channels_ > 16)
            sort_many(begin, end);
        else // by insertion, here: a call costs more than the few steps
            for (channel_core** at = begin + (begin != end); at < end; ++at)
                for (channel_core** p = at; p != begin && std::less<channel_core*>()(*p, p[-1]); --p)
                    std::swap(*p, p[-1]);
        locks_ = static_cast<std::uint32_t>(std::unique(begin, end) - begin);
    }
    MPG_NOINLINE void shuffle() noexcept {
        base::random random(sched::random_bits());
        for (std::uint32_t n = channels_; n > 1; --n) std::swap(t_.order[n - 1], t_.order[random.below(n)]);
    }
    void lock_all() noexcept {
        base::holds_one_more();
        for (std::uint32_t i = 0; i < locks_; ++i) t_.locks[i]->lock.lock_counted();
    }
    void unlock_all() noexcept {
        for (std::uint32_t i = locks_; i > 0; --i) t_.locks[i - 1]->lock.unlock_counted();
        base::holds_one_less();
    }

    // With the locks no case looks unready that is ready. The converse may be: a waiter that is served elsewhere
    // at this moment, a place that is reserved. Such a case is put behind the others, and the choice is made
    // again among the rest.
    MPG_ALWAYS_INLINE std::uint32_t poll() noexcept {
        bool ready = false;
        each_channel([&](channel_case& c, std::uint32_t) { ready |= c.is_ready(); });
        each_done([&](done_case& c, std::uint32_t) { ready |= c.looks_ready(); });
        return ready ? choose() : none;
    }
    MPG_NOINLINE std::uint32_t choose() noexcept {
        base::random random(sched::random_bits());
        for (std::uint32_t untried = channels_;; --untried) {
            // One of those that look ready, each with the same chance: the n-th takes the place with a chance
            // of 1/n.
            std::uint32_t ready = 0, place = none, chosen = none;
            for (std::uint32_t k = 0; k < untried; ++k)
                if (channel(t_.order[k]).is_ready() && random.below(++ready) == 0) place = k;
            each_done([&](done_case& c, std::uint32_t i) {
                if (c.looks_ready() && random.below(++ready) == 0) chosen = i;
            });
            if (chosen != none || place == none) return chosen;
            chosen = t_.order[place];
            channel_case& c = channel(chosen);
            c.peer = nullptr;
            c.result = c.ops->attempt(c);
            if (c.result != outcome::blocked) return chosen;
            std::swap(t_.order[place], t_.order[untried - 1]);
        }
    }
    bool finish(std::uint32_t i) {
        return !is(i, case_kind::channel) || channel(i).result != outcome::done ||
               channel(i).ops->finish(channel(i));
    }

    // Pass 2 and 3. none: withdrawn or sent back, start over.
    MPG_ALWAYS_INLINE std::uint32_t wait_unlocking() {
        if (locks_ != channels_) shuffle(); // between different channels the order makes no difference
        sched::multi_wait multi;
        std::optional<alarm> timer; // made only where there is a deadline
        each_channel([&](channel_case& c, std::uint32_t i) {
            ::new (static_cast<void*>(&c.node)) chan_waiter;
            c.node.multi = &multi;
            c.node.index = i;
            c.ops->prepare(c, c.node);
            c.link(c.node);
        });
        unlock_all();

        std::uint32_t winner = none; // claimed by ourselves: nobody wakes us, so do not park
        if (deadline_ != base::never) sched::arm(timer.emplace(multi, timeout_), deadline_); // of a wait: does not throw
        subscribe(multi, winner);
        bool woken = winner != none;
        parked argument{*this, multi};
        if (!woken && sched::park(ops_, &argument)) {
            woken = true;
            winner = multi.winner();
        }
        if (timer) sched::disarm(*timer);
        unsubscribe();
        unlink(winner);

        if (woken && is(winner, case_kind::channel)) {
            channel_case& c = channel(winner);
            c.result = c.ops->woken(c, c.node);
            woken = c.result != outcome::blocked;
        }
        sched::suspension_point();
        return woken ? winner : none;
    }
    MPG_ALWAYS_INLINE void subscribe(sched::multi_wait& multi, std::uint32_t& winner) noexcept {
        each_done([&](done_case& c, std::uint32_t i) {
            c.subscribed = false;
            if (winner != none) return;
            c.multi = &multi;
            c.index = i;
            c.subscribed = c.source->subscribe(c);
            if (!c.subscribed && multi.claim(i) != sched::multi_wait::claim_result::lost) winner = i;
        });
    }
    MPG_ALWAYS_INLINE void unsubscribe() noexcept {
        each_done([&](done_case& c, std::uint32_t) {
            if (c.subscribed) c.source->unsubscribe(c);
            c.subscribed = false;
        });
    }
    // The winner's waiter was unlinked by the one who served it.
    MPG_ALWAYS_INLINE void unlink(std::uint32_t winner) noexcept {
        each_channel([&](channel_case& c, std::uint32_t i) {
            if (i == winner || !c.node.queued.load(std::memory_order_acquire))
                return; // pairs with: wait_queue::erase
            c.core->lock.lock();
            if (c.node.queued.load(std::memory_order_relaxed)) c.queue().erase(c.node);
            c.core->lock.unlock();
        });
    }

    /// What commit, abort and look are given.
    struct parked {
        many_wait& of;
        sched::multi_wait& multi;
    };

    case_table t_;
    const sched::park_ops& ops_;
    std::uint32_t channels_ = 0; // cases with a channel: the first of order
    std::uint32_t locks_ = 0;    // different channels
    std::uint32_t dones_ = 0;    // contexts that can become done
    std::uint32_t otherwise_ = none;
    std::uint32_t timeout_ = none;
    std::chrono::nanoseconds after_{};
    base::nanos deadline_ = base::never;
};

/// Goes on with one of the cases that look ready without their locks, each equally likely; its index, or
/// size. Like the first pass of static_select.
inline std::uint32_t go_on_with_ready(const case_table& t) {
    auto looks_ready = [&](std::uint32_t i) {
        select_case& c = *t.cases[i];
        return c.kind == case_kind::channel
                   ? static_cast<channel_case&>(c).looks_ready()
                   : c.kind == case_kind::done && static_cast<done_case&>(c).looks_ready();
    };
    std::uint32_t ready = 0;
    for (std::uint32_t i = 0; i < t.size; ++i) {
        if (!looks_ready(i)) continue;
        t.order[ready++] = i;
    }
    if (ready == 0) return t.size;
    std::uint32_t chosen = t.order[base::random::below(ready, sched::random_bits())];
    if (t.cases[chosen]->kind == case_kind::done) return chosen;
    auto& c = static_cast<channel_case&>(*t.cases[chosen]);
    c.core->lock.lock();
    c.peer = nullptr;
    c.result = c.ops->attempt(c);
    c.core->lock.unlock();
    bool went_on = c.result == outcome::closed || (c.result == outcome::done && c.ops->finish(c));
    return went_on ? chosen : t.size;
}

template <sched::wait_reason Reason>
inline constexpr sched::park_ops many_ops{Reason, &many_wait::commit, &many_wait::abort, &many_wait::look};

} // namespace mpg::channels
