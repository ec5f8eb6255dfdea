// From the recorder's events to a trace that Go's tools accept.
//
// They refuse one that is not consistent: who starts must have been created and runnable, a P runs one at a time, who is
// woken must have waited. The rings know nothing of this: they begin anywhere, a yield is told by the next start only,
// what happens without a P stands apart, and the counters of two CPUs may differ by a little. So the events drive a machine
// that knows the state of each task; where one needs another state than that, what leads there is put in before it, at that
// moment.
#pragma once

#include <mpg/debug/dump.hpp>
#include <mpg/debug/go_trace_file.hpp>
#include <mpg/sched/events.hpp>
#include <mpg/sched/wait_reason.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mpg::debug::detail {

/// Events in, a consistent trace out.
class go_trace_writer {
  public:
    enum class state { unborn, runnable, running, waiting, in_call, ended };

    /// idle_least: so many ticks without a task are more than the way from one to the next: the P is idle.
    go_trace_writer(symbolizer& symbols, std::size_t procs, std::uint64_t idle_least)
        : symbols_(symbols), idle_least_(idle_least), running_(procs + 1), written_(procs) {}

    /// Of a task whose site is known.
    void created_at(std::uint64_t id, std::uint64_t site) { sites_[id] = site; }
    /// Tells of a task that stands in no event.
    void alive(std::uint64_t id, state s, std::size_t p = 0) {
        auto [at, fresh] = tasks_.try_emplace(id);
        if (!fresh) return;
        at->second.now = s;
        if (s != state::running) return;
        at->second.p = p;
        if (running_[p] == 0)
            running_[p] = id;
        else
            at->second.now = state::runnable;
    }
    /// Tells of a task by its next event, on P p.
    void first_seen(const sched::event_entry& e, std::size_t p) {
        using sched::trace_event;
        switch (e.what()) {
        case trace_event::create: return alive(e.about, state::unborn);
        case trace_event::ready: return alive(e.about, state::waiting);
        case trace_event::start: return alive(e.about, state::runnable);
        case trace_event::block:
        case trace_event::end:
        case trace_event::preempt: return alive(task_of(e), p == nowhere() ? state::in_call : state::running, p);
        default: return;
        }
    }
    /// From here on it is written, beginning with those that are there.
    void begin() {
        writing_ = true;
        add(0, go_event::procs, {nowhere(), 0});
        for (std::size_t p = 0; p < nowhere(); ++p) add(p, go_event::p_start, {0});
        std::map<std::uint64_t, line*> there;
        for (auto& [id, t] : tasks_)
            if (t.now != state::unborn && t.now != state::ended) there.emplace(id, &t);
        std::vector<std::uint64_t> ran(running_.size());
        ran.swap(running_);
        for (auto& [id, t] : there) {
            list(id, *t);
            if (t->now == state::running) {
                t->now = state::runnable;
                run_on(id, *t, t->p);
            }
        }
        began_ = time_;
    }
    /// What comes next is at that many ticks after the beginning.
    void advance(std::uint64_t ticks) { time_ = std::max(time_, began_ + ticks); }
    void event(const sched::event_entry& e, std::size_t p) {
        using sched::trace_event;
        const std::uint64_t id = task_of(e);
        if (id == 0) return;
        if (!tasks_.contains(id)) first_seen(e, p);
        line& t = tasks_[id];
        if (t.now == state::ended) return;
        switch (e.what()) {
        case trace_event::create: create(id, t, p); break;
        case trace_event::start: start(id, t, p); break;
        case trace_event::ready:
            if (t.now == state::waiting)
                wake(id, t, p);
            else if (t.now == state::running)
                t.woken_early = true;
            break;
        case trace_event::block: block(id, t, p, static_cast<sched::wait_reason>(e.about >> 56)); break;
        case trace_event::preempt:
            run_on(id, t, p);
            leave(t, state::runnable);
            add(p, go_event::preempt, {stack_of(id)});
            break;
        case trace_event::end:
            run_on(id, t, p);
            leave(t, state::ended);
            add(p, go_event::end, {});
            break;
        default: break;
        }
    }
    std::string end(std::uint64_t ticks_in_a_second) {
        for (std::size_t p = 0; p < running_.size(); ++p) {
            if (const std::uint64_t id = running_[p]) {
                leave(tasks_[id], state::runnable);
                add(p, go_event::preempt, {stack_of(id)});
            }
            if (p < nowhere()) file_.add(p, go_event::p_stop, is_stopped(p) ? written_[p].at + 1 : ++time_, {});
        }
        return file_.finish(ticks_in_a_second);
    }
    /// Without a P.
    std::size_t nowhere() const noexcept { return running_.size() - 1; }

    static std::uint64_t task_of(const sched::event_entry& e) noexcept {
        using sched::trace_event;
        switch (e.what()) {
        case trace_event::site:
        case trace_event::steal:
        case trace_event::handoff: return 0;
        case trace_event::block: return e.about & ~(std::uint64_t{0xff} << 56);
        default: return e.about;
        }
    }

  private:
    static constexpr std::uint64_t calls_p = 1'000'003; // Go's number for the line of system calls

    /// What has been written of a P.
    struct written {
        std::uint64_t at = 0; // the last event
        bool idle = true;     // by which it runs nobody
    };

    struct line {
        state now = state::unborn;
        std::size_t p = 0;      // where it runs
        std::uint64_t next = 0; // Go numbers what happens to a goroutine on different Ps
        bool woken_early = false; // a wake-up stood before the wait that it ends
    };

    void add(std::size_t p, go_event kind, std::initializer_list<std::uint64_t> about) {
        if (!writing_) return;
        if (p == nowhere()) return file_.add(calls_p, kind, ++time_, about);
        if (kind != go_event::p_start) returns_to(p);
        file_.add(p, kind, ++time_, about);
        written_[p].at = time_;
        switch (kind) {
        case go_event::start: written_[p].idle = false; break;
        case go_event::end:
        case go_event::sched:
        case go_event::preempt:
        case go_event::sleep:
        case go_event::block:
        case go_event::block_send:
        case go_event::block_recv:
        case go_event::block_select:
        case go_event::block_sync:
        case go_event::block_cond:
        case go_event::block_net:
        case go_event::call_block: written_[p].idle = true; break;
        default: break;
        }
    }
    /// A P that has had nobody for a while was stopped meanwhile: that is said when something happens on it again.
    bool is_stopped(std::size_t p) const noexcept { return written_[p].idle && time_ - written_[p].at >= idle_least_; }
    void returns_to(std::size_t p) {
        if (!is_stopped(p)) return;
        file_.add(p, go_event::p_stop, written_[p].at + 1, {});
        file_.add(p, go_event::p_start, ++time_, {0});
        written_[p].at = time_;
    }
    void list(std::uint64_t id, line& t) {
        add(nowhere(), go_event::create, {id, stack_of(id), 0});
        t.next = 1;
        if (t.now != state::waiting && t.now != state::in_call) return;
        add(nowhere(), t.now == state::waiting ? go_event::waiting : go_event::in_call, {id});
        t.next = 2;
    }
    void create(std::uint64_t id, line& t, std::size_t p) {
        if (t.now != state::unborn) return;
        const std::uint64_t stack = stack_of(id);
        add(p, go_event::create, {id, stack, stack});
        t.now = state::runnable;
        t.next = 1;
    }
    void wake(std::uint64_t id, line& t, std::size_t p) {
        add(p, go_event::unblock, {id, t.next++, stack_of(id)});
        t.now = state::runnable;
    }
    /// It does not run any longer where it runs.
    void leave(line& t, state then) {
        running_[t.p] = 0;
        t.now = then;
        t.woken_early = false;
    }
    void run_on(std::uint64_t id, line& t, std::size_t p) {
        if (running_[p] == id) return;
        if (const std::uint64_t other = running_[p]) { // it has yielded
            leave(tasks_[other], state::runnable);
            add(p, go_event::sched, {stack_of(other)});
        }
        if (t.now == state::running) {
            const std::size_t where = t.p;
            leave(t, state::runnable);
            add(where, go_event::sched, {stack_of(id)});
        }
        create(id, t, p);
        if (t.now == state::waiting) wake(id, t, p);
        if (t.now == state::in_call) add(p, go_event::call_exit, {id, t.next++, 0});
        add(p, go_event::start, {id, t.next++});
        running_[p] = id;
        t.p = p;
        t.now = state::running;
    }
    void start(std::uint64_t id, line& t, std::size_t p) {
        if (p != nowhere()) return run_on(id, t, p);
        if (t.now == state::in_call) return;
        run_on(id, t, p);
        call(id, t, p);
    }
    void call(std::uint64_t id, line& t, std::size_t p) {
        add(p, go_event::call, {stack_of(id, sched::wait_reason::blocking)});
        add(p, go_event::call_block, {});
        leave(t, state::in_call);
    }
    void block(std::uint64_t id, line& t, std::size_t p, sched::wait_reason why) {
        run_on(id, t, p);
        if (why == sched::wait_reason::blocking) return call(id, t, p);
        const bool woken = t.woken_early;
        leave(t, state::waiting);
        add(p, kind_of(why), {stack_of(id, why)});
        if (woken) wake(id, t, p);
    }
    static go_event kind_of(sched::wait_reason why) noexcept {
        using sched::wait_reason;
        switch (why) {
        case wait_reason::chan_send: return go_event::block_send;
        case wait_reason::chan_recv: return go_event::block_recv;
        case wait_reason::select: return go_event::block_select;
        case wait_reason::condition_variable: return go_event::block_cond;
        case wait_reason::sleep: return go_event::sleep;
        case wait_reason::mutex:
        case wait_reason::shared_mutex_read:
        case wait_reason::shared_mutex_write:
        case wait_reason::wait_group:
        case wait_reason::once:
        case wait_reason::semaphore:
        case wait_reason::latch:
        case wait_reason::barrier:
        case wait_reason::join: return go_event::block_sync;
        case wait_reason::io_read:
        case wait_reason::io_write:
        case wait_reason::io_accept:
        case wait_reason::io_connect:
        case wait_reason::io_file: return go_event::block_net;
        default: return go_event::block;
        }
    }
    std::uint64_t stack_of(std::uint64_t id, sched::wait_reason why = sched::wait_reason::none) {
        if (!writing_) return 0;
        auto site = sites_.find(id);
        const std::uint64_t pc = site == sites_.end() ? 0 : site->second;
        auto [at, fresh] = stacks_.try_emplace({pc, why});
        if (!fresh) return at->second;
        std::vector<go_frame> frames;
        if (why != sched::wait_reason::none) // numbered by the reason: no code is there
            frames.push_back({static_cast<std::uint64_t>(why), std::string(sched::to_string(why)), {}, 0});
        if (pc == 0) {
            frames.push_back({~std::uint64_t{0}, "created at an unknown place", {}, 0});
        } else {
            const location l = task_writer(symbols_).origin(reinterpret_cast<const void*>(pc));
            // The tools show functions only. Of an inlined lambda that is not enough.
            const bool bare = l.function == "operator()" && !l.file.empty();
            frames.push_back({pc, bare ? l.function + " at " + l.file.substr(l.file.rfind('/') + 1) + ":" + std::to_string(l.line) : l.function, l.file, l.line});
        }
        return at->second = file_.stack(frames);
    }

    symbolizer& symbols_;
    const std::uint64_t idle_least_;
    go_trace_file file_;
    bool writing_ = false;
    std::uint64_t time_ = 0, began_ = 0;
    std::unordered_map<std::uint64_t, line> tasks_;
    std::vector<std::uint64_t> running_; // what each P runs, and, last, who runs without one for a moment
    std::vector<written> written_;       // of each P
    std::unordered_map<std::uint64_t, std::uint64_t> sites_;
    std::map<std::pair<std::uint64_t, sched::wait_reason>, std::uint64_t> stacks_;
};

} // namespace mpg::debug::detail
