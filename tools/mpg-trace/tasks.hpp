// What is known of the tasks of another process, from the events of its probes.
//
// Everything that happens is told in order, but what there was no room for is missing, and so is what was before. So no
// event is taken as proof that an earlier one has come.
#pragma once

#include "event.h"

#include <mpg/sched/events.hpp>
#include <mpg/sched/task.hpp>
#include <mpg/sched/wait_reason.hpp>

#include <cstdint>
#include <type_traits>
#include <unordered_map>

namespace mpg_trace {

// What event.h says in C is what the library means.
using mpg::sched::trace_event;
using mpg::sched::wait_reason;
static_assert(MPG_TRACE_CREATE == static_cast<int>(trace_event::create));
static_assert(MPG_TRACE_START == static_cast<int>(trace_event::start));
static_assert(MPG_TRACE_BLOCK == static_cast<int>(trace_event::block));
static_assert(MPG_TRACE_READY == static_cast<int>(trace_event::ready));
static_assert(MPG_TRACE_END == static_cast<int>(trace_event::end));
static_assert(MPG_TRACE_PREEMPT == static_cast<int>(trace_event::preempt));
static_assert(MPG_TRACE_OFF > static_cast<int>(trace_event::preempt)); // the last of them
static_assert(sizeof(mpg_trace_event::task) == sizeof(mpg::sched::task::id) && std::is_unsigned_v<decltype(mpg::sched::task::id)>);
static_assert(sizeof(mpg_trace_event::about) == sizeof(mpg::sched::task::created_at));
static_assert(sizeof(mpg_trace_event::about) == sizeof(mpg::sched::task::body));
static_assert(sizeof(mpg_trace_event::about) >= sizeof(wait_reason));
static_assert(sizeof(mpg_trace_event::time) == sizeof(mpg::base::nanos));
static_assert(std::is_standard_layout_v<mpg_trace_event> && std::is_trivially_copyable_v<mpg_trace_event>);

enum class activity { unknown, runnable, running, waiting, ended };

/// Sums since the last look.
struct sums {
    std::uint64_t cpu = 0;      // ns on a CPU
    std::uint64_t queued = 0;   // ns runnable, and not running
    std::uint64_t switches = 0; // runs
    sums& operator+=(const sums& o) {
        cpu += o.cpu;
        queued += o.queued;
        switches += o.switches;
        return *this;
    }
};

struct task {
    std::uint64_t site = 0;    // 0: not known
    std::int32_t stack = -1;   // of its creation
    std::uint64_t created = 0; // 0: before we came
    activity now = activity::unknown;
    wait_reason why = wait_reason::none;
    std::uint64_t runnable_since = 0; // or 0: not known
    std::uint32_t thread = 0;         // while it runs
    sums recent;
};

struct thread {
    std::uint64_t task = 0;  // that it runs, or 0
    std::uint64_t since = 0; // what is counted already; 0: the kernel has it off the CPU
};

class tasks {
  public:
    void take(const mpg_trace_event& e) {
        switch (e.what) {
        case MPG_TRACE_CREATE: {
            task& t = all_[e.task] = {};
            t.site = e.about;
            t.stack = e.stack;
            t.created = e.time;
            is_runnable(t, e.time);
            ++created_;
            break;
        }
        case MPG_TRACE_START: starts(e); break;
        case MPG_TRACE_BLOCK: {
            task& t = stops(e);
            t.now = activity::waiting;
            t.why = e.about <= static_cast<unsigned>(wait_reason::stopped) ? static_cast<wait_reason>(e.about) : wait_reason::none;
            break;
        }
        case MPG_TRACE_READY: is_runnable(all_[e.task], e.time); break;
        case MPG_TRACE_PREEMPT: is_runnable(stops(e), e.time); break;
        case MPG_TRACE_END:
            stops(e).now = activity::ended;
            ++ended_;
            break;
        case MPG_TRACE_OFF:
            if (auto it = threads_.find(e.thread); it != threads_.end()) {
                count(it->second, e.time);
                it->second.since = 0;
            }
            break;
        case MPG_TRACE_ON:
            if (auto it = threads_.find(e.thread); it != threads_.end()) it->second.since = e.time;
            break;
        default: break;
        }
    }

    /// Counts what goes on up to now.
    void settle(std::uint64_t now) {
        for (auto& [id, th] : threads_) count(th, now);
        for (auto& [id, t] : all_)
            if (t.now == activity::runnable) queued_until(t, now);
    }
    /// Forgets sums, and who has ended.
    void next_period() {
        for (auto it = all_.begin(); it != all_.end();)
            if (it->second.now == activity::ended) {
                it = all_.erase(it);
            } else {
                it->second.recent = {};
                ++it;
            }
    }
    const std::unordered_map<std::uint64_t, task>& all() const { return all_; }
    std::uint64_t created() const { return created_; }
    std::uint64_t ended() const { return ended_; }

  private:
    void starts(const mpg_trace_event& e) {
        thread& th = threads_[e.thread];
        if (th.task != 0 && th.task != e.task) { // it has yielded
            count(th, e.time);
            if (auto it = all_.find(th.task); it != all_.end() && it->second.thread == e.thread) is_runnable(it->second, e.time);
        }
        task& t = all_[e.task];
        if (t.thread != 0 && t.thread != e.thread) threads_[t.thread].task = 0;
        if (t.now == activity::runnable) queued_until(t, e.time);
        if (t.site == 0) t.site = e.about;
        t.now = activity::running;
        t.thread = e.thread;
        t.runnable_since = 0;
        ++t.recent.switches;
        if (th.task != e.task || th.since == 0) th.since = e.time;
        th.task = e.task;
    }
    task& stops(const mpg_trace_event& e) {
        task& t = all_[e.task];
        if (auto it = threads_.find(e.thread); it != threads_.end() && it->second.task == e.task) {
            count(it->second, e.time);
            it->second.task = 0;
        }
        t.thread = 0;
        return t;
    }
    void count(thread& th, std::uint64_t until) {
        if (th.since == 0 || until <= th.since) return;
        if (auto it = all_.find(th.task); th.task != 0 && it != all_.end()) it->second.recent.cpu += until - th.since;
        th.since = until;
    }
    static void queued_until(task& t, std::uint64_t until) {
        if (t.runnable_since != 0 && until > t.runnable_since) {
            t.recent.queued += until - t.runnable_since;
            t.runnable_since = until;
        }
    }
    static void is_runnable(task& t, std::uint64_t time) {
        t.now = activity::runnable;
        t.thread = 0;
        t.runnable_since = time;
    }

    std::unordered_map<std::uint64_t, task> all_;
    std::unordered_map<std::uint32_t, thread> threads_;
    std::uint64_t created_ = 0, ended_ = 0;
};

} // namespace mpg_trace
