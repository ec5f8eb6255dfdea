// A model checker: runs a small concurrent program in every order, with every value that each read may see.
//
//   auto r = explore([](program& p) {           // called once for each execution: makes the state, names the threads
//       auto s = std::make_shared<state>();
//       p.thread([s] { ... });
//       p.thread([s] { ... });
//       p.finally([s] { require(s->taken == 2, "both were taken"); });
//   });
//   EXPECT_FALSE(r.failed) << r.message;
//
// The program's atomics are mpg::base::atomic (see atomic.hpp: that is how the library's own headers run here), its plain
// memory is `plain<T>`, its locks are `mutex`, and it waits for an `event`. A failure is a require() that does not hold,
// a deadlock (all that is not finished waits: so a lost wake-up is one), a data race on a plain<T>, an atomic that is
// touched after or without order against its destruction, or a program that does not end.
//
// Memory. C++20's model as views (Kang et al., "A promising semantics for relaxed-memory concurrency", POPL 2017, without
// its promises). A location is the list of all values it ever had; a thread's view says, for each location, how old a
// value it may still read. A release attaches the writer's view to the value, an acquire takes it over; the fences and
// a global view for seq_cst as in the standard. So stale reads, store buffering and the reordering of relaxed writes are
// found. Not found: load buffering (a read of a value that is written later), since writes enter a location in the order in
// which they are executed, and spurious failures of weak exchanges.
//
// Orders. Depth first over all choices, by repeating the prefix (stateless). Two executions that differ only in the order of
// independent steps are the same; sleep sets (Godefroid) leave all but one out. A thread may read the same stale
// value of a location twice in a row, then it must see a newer one: the standard's "in a finite period of time".
//
// Mutants. Each operation knows its place in the source. explore(..., mutation) weakens the one at a place: a relaxed
// order, a dropped fence, a store that changes places with what follows, an addition that comes after the next fence. mutants() lists all that make sense.
//
// Threads are fibers of this one OS thread and are abandoned where an execution ends early: a thread's own frame holds
// nothing that needs a destructor.
#pragma once

#include <boost/context/detail/fcontext.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mpg::model {

inline constexpr unsigned max_threads = 5; // 0 is who sets up and who checks at the end
inline constexpr unsigned max_locations = 40;

struct view {
    std::array<std::uint16_t, max_locations> seen{};  // per location: the oldest value that may be read
    std::array<std::uint16_t, max_threads> clock{};   // per thread: what of it happened before
    void join(const view& o) noexcept {
        for (unsigned i = 0; i < max_locations; ++i) seen[i] = std::max(seen[i], o.seen[i]);
        for (unsigned i = 0; i < max_threads; ++i) clock[i] = std::max(clock[i], o.clock[i]);
    }
};

enum class op_kind : std::uint8_t { start, load, store, rmw, fence, lock, unlock, await, yield, destroy, fence_all };
enum class weakening : std::uint8_t { none, relaxed, no_acquire, no_release, not_seq_cst, failure, dropped, late, after_fence };

/// A place in the source, and what stands there.
struct site {
    std::string_view file, function;
    std::uint32_t line, column;
    op_kind kind;
    std::memory_order order;
    std::memory_order failure = std::memory_order_relaxed; // of a compare-exchange
    bool adds = false;                                     // fetch_add or fetch_sub
    bool operator==(const site& o) const noexcept {
        return line == o.line && column == o.column && kind == o.kind && file == o.file;
    }
};
struct mutation {
    site where{};
    weakening how = weakening::none;
    bool operator==(const mutation&) const noexcept = default;
};

inline const char* name(op_kind k) {
    constexpr const char* names[] = {"start", "load", "store", "rmw", "fence", "lock", "unlock", "await", "yield", "destroy", "fence on all CPUs"};
    return names[static_cast<unsigned>(k)];
}
inline const char* name(std::memory_order o) {
    switch (o) {
    case std::memory_order_relaxed: return "relaxed";
    case std::memory_order_acquire: return "acquire";
    case std::memory_order_release: return "release";
    case std::memory_order_acq_rel: return "acq_rel";
    default: return "seq_cst";
    }
}
inline const char* name(weakening w) {
    constexpr const char* names[] = {"none", "relaxed", "without acquire", "without release", "not seq_cst", "relaxed when it fails", "dropped", "late", "after the next fence"};
    return names[static_cast<unsigned>(w)];
}
/// "push: store release, late": without line numbers, so that tests can name it.
inline std::string to_string(const mutation& m) {
    std::string_view f = m.where.function.substr(0, m.where.function.find('('));
    std::size_t at = f.find_last_of(": ");
    if (at != f.npos) f.remove_prefix(at + 1);
    return std::string(f) + ": " + name(m.where.kind) + " " + name(m.where.order) + ", " + name(m.how);
}

struct result {
    bool failed = false;
    bool complete = false; // every execution was tried
    std::uint64_t executions = 0;
    std::string message; // what failed, and how it came to it
};

class program {
  public:
    void thread(std::function<void()> f) { threads_.push_back(std::move(f)); }
    void finally(std::function<void()> f) { finally_ = std::move(f); }

  private:
    friend class explorer;
    std::vector<std::function<void()>> threads_;
    std::function<void()> finally_;
};

class explorer {
  public:
    static explorer& current() noexcept { return *current_; }
    static bool active() noexcept { return current_ != nullptr; }

    /// random: a seed; 0 explores in order.
    explorer(std::function<void(program&)> setup, std::uint64_t limit, mutation m, std::uint64_t random = 0)
        : setup_(std::move(setup)), limit_(limit), mutation_(m), random_(random) {
        for (auto& t : threads_) t.stack = std::make_unique<char[]>(stack_bytes);
    }

    result run() {
        current_ = this;
        do {
            ++result_.executions;
            execute();
        } while (!result_.failed && next_path() && result_.executions < limit_);
        result_.complete = !result_.failed && random_ == 0 && path_.empty();
        current_ = nullptr;
        return std::move(result_);
    }
    const std::vector<site>& sites() const noexcept { return sites_; }

    // ---- what the program's operations call

    unsigned new_location(std::uint64_t value) {
        if (location_count_ == max_locations) return fail("more locations than max_locations"), 0;
        location& l = locations_[location_count_];
        l.history.clear();
        l.alive = true;
        l.touched.fill(0);
        l.reread.fill(0);
        l.history.push_back({value, self().cur});
        return location_count_++;
    }
    void destroy(unsigned loc) {
        if (!running_) return;
        visible({op_kind::destroy, loc, std::memory_order_relaxed});
        location& l = locations_[loc];
        for (unsigned t = 0; t < max_threads; ++t)
            if (t != at_ && l.touched[t] > self().cur.clock[t]) return fail("an atomic dies while it is in use");
        l.alive = false;
    }
    std::uint64_t load(unsigned loc, std::memory_order order, std::source_location where) {
        order = begin({op_kind::load, loc, order}, where);
        return read(loc, order, choose_read(loc, order, nullptr));
    }
    void store(unsigned loc, std::uint64_t value, std::memory_order order, std::source_location where) {
        weakening how = mutation_at(op_kind::store, order, where);
        if (how == weakening::late) {
            release_held(); // two of them in a row
            self().held = {true, loc, value, order, false};
            return;
        }
        order = begin({op_kind::store, loc, order}, where);
        write(loc, value, order, nullptr);
        release_held();
    }
    std::uint64_t add(unsigned loc, std::uint64_t n, std::memory_order order, std::source_location where) {
        if (mutation_at(op_kind::rmw, order, where, std::memory_order_relaxed, true) == weakening::after_fence) {
            release_held();
            self().held = {true, loc, n, order, true};
            return locations_[loc].history.back().value;
        }
        return rmw(loc, order, where, [n](std::uint64_t old) { return old + n; });
    }
    /// f(old) -> new. Reads the newest value, as every read-modify-write does.
    template <class F> std::uint64_t rmw(unsigned loc, std::memory_order order, std::source_location where, F f) {
        order = begin({op_kind::rmw, loc, order}, where);
        return modify(loc, order, f);
    }
    bool exchange_if(unsigned loc, std::uint64_t& expected, std::uint64_t desired, std::memory_order success,
                     std::memory_order failure, std::source_location where) {
        if (mutation_at(op_kind::rmw, success, where, failure) == weakening::failure) failure = std::memory_order_relaxed;
        success = begin({op_kind::rmw, loc, success}, where);
        unsigned last = newest(loc);
        unsigned chosen = choose_read(loc, failure, &expected);
        std::uint64_t value = locations_[loc].history[chosen].value;
        if (chosen == last && value == expected) {
            modify(loc, success, [&](std::uint64_t) { return desired; });
            return true;
        }
        expected = read(loc, failure, chosen);
        return false;
    }
    void fence(std::memory_order order, std::source_location where) {
        weakening how = mutation_at(op_kind::fence, order, where);
        if (how == weakening::dropped) return;
        fence_of(at_, begin({op_kind::fence, no_location, order}, where));
        release_held(true);
    }
    /// Every thread runs a fence where it stands: membarrier(2).
    void fence_all() {
        visible({op_kind::fence_all, no_location, std::memory_order_seq_cst});
        fence_of(at_, std::memory_order_seq_cst);
        for (unsigned t = 1; t < max_threads; ++t) fence_of(t, std::memory_order_seq_cst);
        fence_of(at_, std::memory_order_seq_cst);
        release_held(true);
    }
    // The value of a lock or an event: 1 is locked, or set.
    void lock(unsigned loc) {
        visible({op_kind::lock, loc, std::memory_order_acquire});
        modify(loc, std::memory_order_acquire, [](std::uint64_t) { return 1u; });
    }
    void unlock(unsigned loc) {
        visible({op_kind::unlock, loc, std::memory_order_release});
        write(loc, 0, std::memory_order_release, nullptr);
        release_held();
    }
    void await(unsigned loc) { // until it is set; takes it back
        release_held(true);
        visible({op_kind::await, loc, std::memory_order_acquire});
        modify(loc, std::memory_order_acquire, [](std::uint64_t) { return 0u; });
    }
    void set(unsigned loc) {
        visible({op_kind::rmw, loc, std::memory_order_acq_rel});
        modify(loc, std::memory_order_acq_rel, [](std::uint64_t) { return 1u; });
    }

    void yield() {
        release_held(true);
        self().yielded_at = writes_;
        visible({op_kind::yield, no_location, std::memory_order_relaxed});
    }

    /// The happens-before bookkeeping of plain memory.
    struct accesses {
        std::uint16_t write_clock = 0;
        unsigned writer = 0;
        std::array<std::uint16_t, max_threads> read_clock{};
    };
    void plain_read(accesses& a) {
        if (a.writer != at_ && a.write_clock > self().cur.clock[a.writer]) fail("a data race: a read beside a write");
        a.read_clock[at_] = self().cur.clock[at_];
    }
    void plain_write(accesses& a) {
        if (a.writer != at_ && a.write_clock > self().cur.clock[a.writer]) fail("a data race: two writes");
        for (unsigned t = 0; t < max_threads; ++t)
            if (t != at_ && a.read_clock[t] > self().cur.clock[t]) fail("a data race: a write beside a read");
        a.writer = at_;
        a.write_clock = self().cur.clock[at_];
    }
    /// Ends this execution and the exploration.
    void fail(std::string what) {
        if (result_.failed) return;
        result_.failed = true;
        result_.message = std::move(what) + trace();
        if (running_) leave(); // for ever
    }
    unsigned thread_index() const noexcept { return at_; }

  private:
    static constexpr unsigned no_location = ~0u;
    static constexpr std::size_t stack_bytes = 64 << 10;
    static constexpr std::size_t max_steps = 3000;

    struct message {
        std::uint64_t value;
        view attached;
    };
    struct location {
        std::vector<message> history;
        std::array<std::uint16_t, max_threads> touched{};
        std::array<std::uint8_t, max_threads> reread{}; // how often in a row the same stale value
        bool alive = false;
    };
    struct operation {
        op_kind kind = op_kind::start;
        unsigned loc = no_location;
        std::memory_order order = std::memory_order_relaxed;
    };
    struct thread {
        view cur, acq, rel;
        operation next;
        std::uint64_t yielded_at = 0;
        bool done = false;
        struct {
            bool is = false;
            unsigned loc = 0;
            std::uint64_t value = 0;
            std::memory_order order{};
            bool adds = false; // not before the next fence
        } held;
        boost::context::detail::fcontext_t context = nullptr;
        std::unique_ptr<char[]> stack;
    };
    struct choice {
        std::uint16_t chosen, count;
    };
    struct step {
        unsigned thread;
        operation op;
        std::uint64_t value;
    };

    static bool acquires(std::memory_order o) {
        return o == std::memory_order_acquire || o == std::memory_order_acq_rel || o == std::memory_order_seq_cst;
    }
    static bool releases(std::memory_order o) {
        return o == std::memory_order_release || o == std::memory_order_acq_rel || o == std::memory_order_seq_cst;
    }
    /// Does it matter which of the two comes first?
    static bool dependent(const operation& a, const operation& b) {
        if (a.kind == op_kind::yield || b.kind == op_kind::yield) return true;
        if (a.kind == op_kind::fence_all || b.kind == op_kind::fence_all) return true;
        auto sc = [](const operation& o) { return o.order == std::memory_order_seq_cst; };
        if (a.kind == op_kind::fence || b.kind == op_kind::fence) return sc(a) && sc(b);
        if (a.loc != b.loc || a.loc == no_location) return false;
        return a.kind != op_kind::load || b.kind != op_kind::load || (sc(a) && sc(b));
    }

    thread& self() noexcept { return threads_[at_]; }
    unsigned newest(unsigned loc) const noexcept { return static_cast<unsigned>(locations_[loc].history.size() - 1); }
    void tick() noexcept { ++self().cur.clock[at_]; }

    /// likely: what random exploration mostly takes (the same thread, the newest value), for failures need long runs of
    /// one thread more often than they need many changes.
    unsigned choose(unsigned count, unsigned likely = 0) {
        if (count == 1) return 0;
        if (random_ != 0) { // xorshift
            random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
            return random_ >> 60 < 12 ? likely : static_cast<unsigned>((random_ >> 8) % count);
        }
        if (depth_ == path_.size()) path_.push_back({0, static_cast<std::uint16_t>(count)});
        if (path_[depth_].count != count) fail("it is not deterministic: the same choices led elsewhere");
        return path_[depth_++].chosen;
    }
    bool next_path() {
        if (random_ != 0) return true;
        while (!path_.empty() && path_.back().chosen + 1 == path_.back().count) path_.pop_back();
        if (path_.empty()) return false;
        ++path_.back().chosen;
        return true;
    }

    void fence_of(unsigned index, std::memory_order order) {
        thread& t = threads_[index];
        if (acquires(order)) t.cur.join(t.acq);
        if (order == std::memory_order_seq_cst) {
            for (unsigned i = 0; i < location_count_; ++i)
                t.cur.seen[i] = sc_.seen[i] = std::max(sc_.seen[i], t.cur.seen[i]);
        }
        if (releases(order)) {
            t.rel = t.cur;
            ++t.cur.clock[index];
        }
    }

    // ---- operations

    weakening mutation_at(op_kind kind, std::memory_order order, const std::source_location& where,
                          std::memory_order failure = std::memory_order_relaxed, bool adds = false) {
        site s{where.file_name(), where.function_name(), where.line(), where.column(), kind, order, failure, adds};
        if (std::find(sites_.begin(), sites_.end(), s) == sites_.end()) sites_.push_back(s);
        return mutation_.how != weakening::none && mutation_.where == s ? mutation_.how : weakening::none;
    }
    std::memory_order begin(operation op, const std::source_location& where) {
        switch (mutation_at(op.kind, op.order, where)) {
        case weakening::relaxed: op.order = std::memory_order_relaxed; break;
        case weakening::no_acquire:
            op.order = releases(op.order) ? std::memory_order_release : std::memory_order_relaxed;
            break;
        case weakening::no_release:
            op.order = acquires(op.order) ? std::memory_order_acquire : std::memory_order_relaxed;
            break;
        case weakening::not_seq_cst: op.order = std::memory_order_acq_rel; break;
        default: break;
        }
        if (self().held.is && self().held.loc == op.loc) release_held(true); // a thread always sees its own order
        visible(op);
        return op.order;
    }
    /// A late store comes after the operation that follows it, a late addition after the next fence; before the thread
    /// waits or ends anyway.
    void release_held(bool now = false) {
        if (!self().held.is || (self().held.adds && !now)) return;
        auto h = self().held;
        self().held.is = false;
        visible({h.adds ? op_kind::rmw : op_kind::store, h.loc, h.order});
        if (h.adds)
            modify(h.loc, h.order, [&](std::uint64_t old) { return old + h.value; });
        else
            write(h.loc, h.value, h.order, nullptr);
    }
    void visible(operation op) {
        if (running_) {
            self().next = op;
            leave();
        }
        if (op.loc != no_location) {
            location& l = locations_[op.loc];
            if (!l.alive) fail("an atomic is touched after its end");
            l.touched[at_] = self().cur.clock[at_];
        }
        if (steps_.size() > max_steps) fail("it does not end");
        steps_.push_back({at_, op, 0});
    }
    unsigned choose_read(unsigned loc, std::memory_order order, const std::uint64_t* unless) {
        location& l = locations_[loc];
        unsigned last = newest(loc), first = self().cur.seen[loc];
        if (order == std::memory_order_seq_cst) first = std::max<unsigned>(first, sc_.seen[loc]);
        std::array<unsigned, 64> options;
        unsigned n = 0;
        options[n++] = last;
        for (unsigned i = last; i-- > first && n < options.size();) {
            if (i == self().cur.seen[loc] && l.reread[at_] >= 2) continue;
            if (unless && l.history[i].value == *unless) continue; // an exchange that may succeed does, on the newest
            options[n++] = i;
        }
        unsigned chosen = options[choose(n)];
        l.reread[at_] = chosen == self().cur.seen[loc] && chosen != last ? static_cast<std::uint8_t>(l.reread[at_] + 1) : 0;
        return chosen;
    }
    std::uint64_t read(unsigned loc, std::memory_order order, unsigned index) {
        thread& t = self();
        const message& m = locations_[loc].history[index];
        t.cur.seen[loc] = std::max(t.cur.seen[loc], static_cast<std::uint16_t>(index));
        t.acq.join(m.attached);
        if (acquires(order)) t.cur.join(m.attached);
        if (order == std::memory_order_seq_cst) sc_.seen[loc] = std::max(sc_.seen[loc], static_cast<std::uint16_t>(index));
        steps_.back().value = m.value;
        std::uint64_t value = m.value;
        release_held();
        return value;
    }
    void write(unsigned loc, std::uint64_t value, std::memory_order order, const view* before) {
        thread& t = self();
        auto index = static_cast<std::uint16_t>(locations_[loc].history.size());
        t.cur.seen[loc] = index;
        message m{value, releases(order) ? t.cur : t.rel};
        m.attached.seen[loc] = index;
        if (before) m.attached.join(*before); // a release sequence goes on
        locations_[loc].history.push_back(m);
        if (order == std::memory_order_seq_cst) sc_.seen[loc] = index;
        steps_.back().value = value;
        ++writes_;
        tick();
    }
    template <class F> std::uint64_t modify(unsigned loc, std::memory_order order, F f) {
        thread& t = self();
        const message m = locations_[loc].history.back();
        t.acq.join(m.attached);
        if (acquires(order)) t.cur.join(m.attached);
        write(loc, f(m.value), order, &m.attached);
        release_held();
        return m.value;
    }

    // ---- executions

    void leave() { scheduler_ = boost::context::detail::jump_fcontext(scheduler_, nullptr).fctx; }
    void resume(unsigned t) {
        at_ = t;
        threads_[t].context = boost::context::detail::jump_fcontext(threads_[t].context, this).fctx;
        at_ = 0;
    }
    static void thread_main(boost::context::detail::transfer_t from) {
        auto* e = static_cast<explorer*>(from.data);
        e->scheduler_ = from.fctx;
        (*e->body_)[e->at_ - 1]();
        e->release_held(true);
        e->self().done = true;
        e->leave();
    }
    bool enabled(unsigned t) const noexcept {
        const thread& x = threads_[t];
        if (x.done) return false;
        if (x.next.kind == op_kind::lock) return locations_[x.next.loc].history.back().value == 0;
        if (x.next.kind == op_kind::await) return locations_[x.next.loc].history.back().value != 0;
        return true;
    }

    /// Has it yielded, and nobody has written anything since?
    bool gives_way(unsigned t) const noexcept {
        return threads_[t].next.kind == op_kind::yield && threads_[t].yielded_at == writes_;
    }

    void execute() {
        program p;
        depth_ = 0;
        location_count_ = 0;
        writes_ = 0;
        steps_.clear();
        sc_ = view{};
        at_ = 0;
        running_ = false;
        for (auto& t : threads_) {
            t.cur = t.acq = t.rel = view{};
            t.held.is = false;
        }
        threads_[0].cur.clock[0] = 1;
        setup_(p);
        body_ = &p.threads_;
        const auto n = static_cast<unsigned>(p.threads_.size());
        if (n >= max_threads) return fail("more threads than max_threads");

        running_ = true;
        for (unsigned t = 1; t <= n && !result_.failed; ++t) { // to the first operation of each
            threads_[t].cur = threads_[0].cur;
            threads_[t].cur.clock[t] = 1;
            threads_[t].done = false;
            threads_[t].context =
                boost::context::detail::make_fcontext(threads_[t].stack.get() + stack_bytes, stack_bytes, thread_main);
            resume(t);
        }
        unsigned sleeping = 0; // a bit for each thread
        unsigned last = 0;
        while (!result_.failed) {
            std::array<unsigned, max_threads> options;
            unsigned count = 0, alive = 0, ready = 0;
            bool all_yield = true; // then it is the turn of who has yielded, too
            for (unsigned t = 1; t <= n; ++t) all_yield = all_yield && (!enabled(t) || gives_way(t));
            for (unsigned t = 1; t <= n; ++t) {
                alive += !threads_[t].done;
                if (!enabled(t) || (!all_yield && gives_way(t))) continue;
                ++ready;
                if (!(sleeping >> t & 1)) options[count++] = t;
            }
            if (alive == 0) break;
            running_ = false; // the failure below leaves no thread
            if (ready == 0) return fail("a deadlock: " + std::to_string(alive) + " threads wait for ever");
            running_ = true;
            if (count == 0) return end(); // the same as an execution that was tried
            unsigned same = 0;
            while (same + 1 < count && options[same] != last) ++same;
            const unsigned chosen = choose(count, same);
            const unsigned t = options[chosen];
            for (unsigned i = 0; i < chosen && random_ == 0; ++i) sleeping |= 1u << options[i];
            const operation op = threads_[t].next;
            for (unsigned u = 1; u <= n; ++u)
                if ((sleeping >> u & 1) && dependent(op, threads_[u].next)) sleeping &= ~(1u << u);
            last = t;
            resume(t);
        }
        running_ = false;
        if (result_.failed) return;
        for (unsigned t = 1; t <= n; ++t) threads_[0].cur.join(threads_[t].cur);
        if (p.finally_) p.finally_();
    }
    void end() noexcept { running_ = false; }

    std::string trace() const {
        std::ostringstream out;
        for (const step& s : steps_) {
            out << "\n  thread " << s.thread << ": " << name(s.op.kind);
            if (s.op.loc != no_location) out << " of " << s.op.loc << " = " << static_cast<std::int64_t>(s.value);
            out << " (" << name(s.op.order) << ")";
        }
        return out.str();
    }

    inline static explorer* current_ = nullptr;

    std::function<void(program&)> setup_;
    std::uint64_t limit_;
    mutation mutation_;
    std::uint64_t random_;
    result result_;
    std::vector<site> sites_;

    std::vector<choice> path_;
    std::size_t depth_ = 0;

    std::array<thread, max_threads> threads_;
    std::array<location, max_locations> locations_;
    unsigned location_count_ = 0;
    std::uint64_t writes_ = 0;
    view sc_;
    std::vector<step> steps_;
    unsigned at_ = 0;      // the thread that runs
    bool running_ = false; // threads run, not the setup or the end
    boost::context::detail::fcontext_t scheduler_ = nullptr;
    const std::vector<std::function<void()>>* body_ = nullptr;
};

inline constexpr std::uint64_t default_limit = 3'000'000;

inline result explore(std::function<void(program&)> setup, mutation m = {}, std::uint64_t limit = default_limit) {
    return explorer(std::move(setup), limit, m).run();
}

/// For programs with too many executions: so many of them, at random.
inline result explore_some(std::function<void(program&)> setup, std::uint64_t executions, std::uint64_t seed) {
    return explorer(std::move(setup), executions, {}, seed | 1).run();
}

inline void require(bool holds, const char* what) {
    if (!holds) explorer::current().fail(what);
}

/// Every weakening of every operation in a header of the library that an exploration of the program meets.
/// file: the end of the header's name.
inline std::vector<mutation> mutants(const std::function<void(program&)>& setup, std::string_view file) {
    explorer e(setup, default_limit, {});
    (void)e.run();
    std::vector<mutation> all;
    for (const site& s : e.sites()) {
        if (!s.file.ends_with(file)) continue;
        auto add = [&](weakening how) { all.push_back({s, how}); };
        const bool acquires = s.order == std::memory_order_acquire || s.order == std::memory_order_acq_rel;
        const bool releases = s.order == std::memory_order_release || s.order == std::memory_order_acq_rel;
        if (s.kind == op_kind::fence) add(weakening::dropped);
        if (s.kind == op_kind::store) add(weakening::late);
        if (s.adds) add(weakening::after_fence);
        if (s.order == std::memory_order_seq_cst) add(weakening::not_seq_cst);
        if (s.order == std::memory_order_seq_cst && s.kind != op_kind::fence) add(weakening::relaxed);
        if (acquires) add(weakening::no_acquire);
        if (s.failure != std::memory_order_relaxed) add(weakening::failure);
        if (releases) add(weakening::no_release);
    }
    return all;
}

// ---- what programs are made of, besides atomics

/// In a loop that waits for what others do: does not go on before somebody has written something, unless nobody can.
inline void yield() { explorer::current().yield(); }

/// Plain memory, watched for data races.
template <class T> class plain {
  public:
    plain(T value = {}) : value_(value) { explorer::current().plain_write(accesses_); }
    operator T() const {
        explorer::current().plain_read(accesses_);
        return value_;
    }
    plain& operator=(T value) {
        explorer::current().plain_write(accesses_);
        value_ = value;
        return *this;
    }
    plain& operator=(const plain& o) { return *this = static_cast<T>(o); }
    plain(const plain&) = delete;

  private:
    mutable explorer::accesses accesses_;
    T value_;
};

/// Lockable; a thread that waits for it does not run.
class mutex {
  public:
    mutex() : loc_(explorer::current().new_location(0)) {}
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;
    void lock() const { explorer::current().lock(loc_); }
    void unlock() const { explorer::current().unlock(loc_); }
    void lock_counted() const { lock(); } // as sched::biased_lock has it
    void unlock_counted() const { unlock(); }
    bool is_locked() const { return false; } // asked by a debugger's look only, which no model takes

  private:
    unsigned loc_;
};

/// Set, or not; wait() takes it back. What a futex or an eventfd does.
class event {
  public:
    event() : loc_(explorer::current().new_location(0)) {}
    void set() { explorer::current().set(loc_); }
    void wait() { explorer::current().await(loc_); }

  private:
    unsigned loc_;
};

} // namespace mpg::model
