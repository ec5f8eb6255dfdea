// What the flight recorder has, as Go's execution trace: for `go tool trace`.
//
// Tasks are goroutines, Ps are Ps.
//
// - The trace begins where all rings have events. What they have from before tells only who did what at the beginning; of
//   others, who is alive and first heard of later, the first event tells.
// - Stacks are not recorded. A stack here is the place where the task was created; above it, for one that waits, what it
//   waits for. A wake-up has that of who is woken. So `-pprof=sync` tells who waits for what, `-pprof=sched` whom the run
//   queues delay.
// - blocking() is a system call; what happens without a P is in the line of those ("Syscalls").
// - A P that runs nobody for 10 us or longer is stopped meanwhile.
// - Steals and hand-offs have no counterpart. Of several runtimes the Ps and the tasks' numbers follow one another.
#pragma once

#include <mpg/debug/go_trace_writer.hpp>
#include <mpg/debug/trace.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <ostream>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mpg::debug {

namespace detail {

/// The events of all rings in order.
class merged_rings {
  public:
    struct place {
        std::int64_t at; // ticks since `zero`
        std::size_t ring;
        std::size_t index;
    };
    explicit merged_rings(std::uint64_t zero) : zero_(zero) {}

    std::int64_t ticks(std::uint64_t stamp) const noexcept {
        return static_cast<std::int64_t>((stamp & ~std::uint64_t{0xff}) - (zero_ << 8)) >> 8;
    }
    void add(const sched::event_ring& from, std::size_t p, std::uint64_t first_task) {
        std::vector<sched::event_entry> entries;
        read_ring(from, entries);
        if (!entries.empty() && from.written() > entries.size()) whole_from_ = std::max(whole_from_, ticks(entries.front().stamp));
        for (sched::event_entry& e : entries)
            if (go_trace_writer::task_of(e) != 0) e.about += first_task;
        rings_.push_back({std::move(entries), p});
    }
    /// From when on no ring lacks anything.
    std::int64_t whole_from() const noexcept { return whole_from_; }

    /// f(ticks, event, p, the one behind it in its ring or null), in order.
    template <class F> void each(F f) const {
        using head = std::pair<std::int64_t, std::size_t>;
        std::priority_queue<head, std::vector<head>, std::greater<>> heads;
        std::vector<std::size_t> next(rings_.size());
        for (std::size_t i = 0; i < rings_.size(); ++i)
            if (!rings_[i].entries.empty()) heads.emplace(ticks(rings_[i].entries[0].stamp), i);
        while (!heads.empty()) {
            const auto [at, i] = heads.top();
            heads.pop();
            const auto& entries = rings_[i].entries;
            const std::size_t n = next[i]++;
            f(at, entries[n], rings_[i].p, n + 1 < entries.size() ? &entries[n + 1] : nullptr);
            // A ring's own order holds, whatever the CPUs' counters say.
            if (n + 1 < entries.size()) heads.emplace(std::max(at, ticks(entries[n + 1].stamp)), i);
        }
    }

  private:
    struct ring {
        std::vector<sched::event_entry> entries;
        std::size_t p;
    };
    const std::uint64_t zero_;
    std::int64_t whole_from_ = INT64_MIN;
    std::vector<ring> rings_;
};

/// On a thread's ordinary stack. since: of cpu_ticks(); 0: all that there is.
inline std::string go_trace_of(const pinned& runtimes, std::uint64_t since) {
    symbolizer symbols;
    std::vector<sched::runtime_state*> recorded;
    std::size_t procs = 0;
    bool goes_on = false;
    for (sched::runtime_state* rt : runtimes) {
        if (!rt->trace.others) continue;
        recorded.push_back(rt);
        procs += rt->ps.size();
        goes_on = goes_on || rt->trace.recording.load(std::memory_order_relaxed);
    }
    const std::uint64_t zero = recorded.empty() ? sched::cpu_ticks() : recorded.front()->trace.first_ticks;
    const base::nanos zero_time = recorded.empty() ? base::now() : recorded.front()->trace.first_time;
    const auto ticks_a_second = [&] {
        const double seconds = static_cast<double>(base::now() - zero_time) / 1e9;
        return seconds > 0 ? static_cast<double>(sched::cpu_ticks() - zero) / seconds : 0;
    };
    go_trace_writer out(symbols, procs, static_cast<std::uint64_t>(ticks_a_second() * 10e-6));
    merged_rings rings(zero);

    // Who is there, and then the rings: who is in neither has come since.
    struct seen {
        std::uint64_t id;
        sched::task_state state;
        std::size_t p; // of who runs
    };
    std::vector<seen> there;
    std::size_t first_p = 0;
    std::uint64_t first_task = 0;
    for (sched::runtime_state* rt : recorded) {
        std::unordered_map<const sched::task*, std::size_t> running;
        for (std::size_t p = 0; p < rt->ps.size(); ++p) {
            const sched::machine* m = rt->ps[p]->m.load(std::memory_order_acquire); // pairs with: whoever gives it the P
            std::byte cur[sizeof(sched::task*)];
            if (!m) continue;
            copy_racy(cur, &m->cur, sizeof cur);
            sched::task* t = nullptr;
            std::memcpy(&t, cur, sizeof t);
            if (t) running[t] = first_p + p;
        }
        sched::for_each_task(*rt, [&](sched::task& t) {
            record_view view(t);
            const std::uint64_t id = first_task + MPG_DEBUG_FIELD(view, id);
            out.created_at(id, reinterpret_cast<std::uint64_t>(MPG_DEBUG_FIELD(view, created_at)));
            auto at = running.find(&t);
            there.push_back({id, t.get_state(), at == running.end() ? procs : at->second});
        });
        first_p += rt->ps.size();
        first_task += 1'000'000'000'000;
    }
    first_p = 0;
    first_task = 0;
    for (sched::runtime_state* rt : recorded) {
        for (std::size_t p = 0; p < rt->ps.size(); ++p) rings.add(*rt->ps[p]->events, first_p + p, first_task);
        rings.add(*rt->trace.others, procs, first_task);
        first_p += rt->ps.size();
        first_task += 1'000'000'000'000;
    }
    const std::uint64_t now = sched::cpu_ticks();

    const std::int64_t from = since == 0 ? rings.whole_from() : std::max(rings.whole_from(), rings.ticks(since << 8));
    using sched::trace_event;
    rings.each([&](std::int64_t at, const sched::event_entry& e, std::size_t p, const sched::event_entry* next) {
        if (e.what() == trace_event::create && next && next->what() == trace_event::site) out.created_at(e.about, next->about);
        if (at < from)
            out.event(e, p);
        else
            out.first_seen(e, p);
    });
    for (const seen& t : there) {
        using state = go_trace_writer::state;
        switch (t.state) {
        case sched::task_state::running: out.alive(t.id, t.p == procs ? state::runnable : state::running, t.p == procs ? 0 : t.p); break;
        case sched::task_state::waiting: out.alive(t.id, state::waiting); break;
        case sched::task_state::blocking: out.alive(t.id, state::in_call); break;
        default: out.alive(t.id, state::runnable); break;
        }
    }
    out.begin();
    std::int64_t zero_at = from;
    bool first = true;
    rings.each([&](std::int64_t at, const sched::event_entry& e, std::size_t p, const sched::event_entry*) {
        if (at < from) return;
        if (std::exchange(first, false)) zero_at = std::max(from, at);
        out.advance(static_cast<std::uint64_t>(std::max<std::int64_t>(at - zero_at, 0)));
        out.event(e, p);
    });
    if (goes_on && !first) out.advance(static_cast<std::uint64_t>(std::max<std::int64_t>(rings.ticks(now << 8) - zero_at, 0)));
    return out.end(std::max<std::uint64_t>(static_cast<std::uint64_t>(ticks_a_second()), 1));
}

inline std::string go_trace(std::uint64_t since = 0) {
    std::string out;
    pinned runtimes;
    aside([&] { on_a_thread([&] { out = go_trace_of(runtimes, since); }); });
    return out;
}

} // namespace detail

/// What write_trace writes, for `go tool trace`: see above.
inline void write_go_trace(std::ostream& os) { os << detail::go_trace(); }

} // namespace mpg::debug
