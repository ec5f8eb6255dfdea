// A picture of all tasks, taken while they run.
//
// How a task at rest is held still: not at all. Its stack is copied, and the copy is thrown away if the task has moved
// meanwhile. Two words of its record tell:
//   ex.ctx.sp   where its registers are saved; null while it runs (switch_execution clears it before it jumps);
//   since       written each time before it leaves its stack, never twice the same value (switch_away).
// The order here:  since, sp;  the stack's bytes;  B1;  sp again;  B2;  since again.  Accepted if both are unchanged.
// Suppose the task ran in between and wrote something that was copied. Then sp = null was stored before, by the same
// thread, so that after B1 (a barrier that every thread of the process executes) we see it, unless the task has left
// its stack again and saved the same sp. But then it had stored a new since before, which after B2 we see. A record
// that was used again for another task shows another since, too, for that is never reset.
// B1 and B2 cost the tasks nothing: membarrier(2) makes the other CPUs execute the barrier. On x86-64, where stores
// become visible in order, nothing is lost without it.
//
// Stacks stay mapped as long as their runtime, which is pinned meanwhile. Records too; their names have a lock.
#pragma once

#include <mpg/debug/capture.hpp>
#include <mpg/debug/forget.hpp>
#include <mpg/debug/proven.hpp>
#include <mpg/sched/stop.hpp>

#include <algorithm>
#include <cstring>
#include <functional>
#include <linux/membarrier.h>
#include <map>
#include <pthread.h>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace mpg::debug {

/// What is known of a task.
struct task_info {
    std::uint64_t id = 0;
    std::string name;
    sched::task_state state = sched::task_state::free;
    sched::wait_reason reason = sched::wait_reason::none; // while it waits
    std::chrono::nanoseconds waited{0};                   // in this state; 0 when not known
    const void* created_at = nullptr;
    std::uint64_t parent = 0;
    std::size_t stack = 0; // index in snapshot::stacks; 0: none
    std::string for_ever;  // why it can never go on, where that has been proved; see prove.hpp

    task_info() = default;
    task_info(const task_info&) = default;
    task_info(task_info&&) = default;
    task_info& operator=(const task_info&) = default;
    task_info& operator=(task_info&&) = default;
    ~task_info() { detail::forget(name, for_ever); }
};

/// Tasks and their stacks; equal stacks are there once. stacks[0] is empty.
struct snapshot {
    std::vector<task_info> tasks;
    std::vector<detail::call_stack> stacks{1};
    std::vector<bool> whole{true}; // unwound to the end

    snapshot() = default;
    snapshot(const snapshot&) = default;
    snapshot(snapshot&&) = default;
    snapshot& operator=(const snapshot&) = default;
    snapshot& operator=(snapshot&&) = default;
    ~snapshot() {
        for (detail::call_stack& s : stacks) detail::forget(s);
    }
};

namespace detail {

/// A barrier on every thread of this process. False: the system has none.
inline bool barrier_everywhere() noexcept {
    static const bool registered = ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return registered && ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

/// Runs f on a thread of its own, whose stack has room for libraries, while the caller's waits. False: there is none to be
/// had. (No std::thread: it would leave the address of f behind in the heap; see scratch_allocator.)
template <class F> bool only_on_a_thread(F& f) {
    ::pthread_t t;
    auto run = [](void* arg) -> void* {
        (*static_cast<F*>(arg))();
        return nullptr;
    };
    if (::pthread_create(&t, nullptr, run, &f) != 0) return false;
    ::pthread_join(t, nullptr);
    return true;
}
/// The same; in place when there is none to be had.
template <class F> void on_a_thread(F f) {
    if (!only_on_a_thread(f)) f();
}

/// The fields of a record that a dump reads. Copied word by word, while others write them.
struct record_view {
    alignas(sched::task) std::byte bytes[sizeof(sched::task)];

    explicit record_view(const sched::task& t) noexcept { copy_racy(bytes, &t, sizeof bytes); }
    template <class T> T get(std::size_t offset) const noexcept {
        T value;
        std::memcpy(&value, bytes + offset, sizeof value);
        return value;
    }
};
#define MPG_DEBUG_FIELD(view, member) (view).get<decltype(::mpg::sched::task::member)>(offsetof(::mpg::sched::task, member))

/// Makes a snapshot of one runtime. On a thread that is none of its machines, or whose task is `self`.
class photographer {
  public:
    photographer(sched::runtime_state& rt, snapshot& out, const std::vector<capture>& known)
        : rt_(rt), out_(out), known_(known), now_(base::now()) {}

    void take() {
        scratch<sched::task*> records;
        rt_.records_lock.lock();
        sched::record_slab* first = rt_.slabs;
        rt_.records_lock.unlock();
        for (sched::record_slab* s = first; s; s = s->next)
            for (sched::task& t : s->records)
                if (auto state = t.get_state(); state != sched::task_state::free && state != sched::task_state::ended)
                    records.push_back(&t);
        // A task that moved is looked at again; who moves each time is running, and asked by a signal.
        for (int round = 0; round < 4 && !records.empty(); ++round) {
            scratch<sched::task*> again;
            for (std::size_t at = 0; at < records.size(); at += batch)
                look(records.data() + at, std::min(batch, records.size() - at), round == 3, again);
            records.swap(again);
        }
        ask_running();
    }

    /// The stack of task id, which is m's current one. Empty: it is not, or it could not be had.
    call_stack of_running(sched::machine& m, std::uint64_t id, bool& whole) {
        capture c;
        bool have = false;
        const int tid = m.tid.load(std::memory_order_relaxed);
        constexpr ::timespec moment{0, 200'000};
        const base::nanos until = base::now() + 1'000'000'000;
        // It may be frozen or thawed meanwhile: again.
        for (bool first = true; !have && (first || base::now() < until); first = false) {
            if (!first) ::nanosleep(&moment, nullptr);
            if (m.frozen_at.load(std::memory_order_relaxed))
                have = capture_frozen(m, c);
            else if (capture_in_syscall(m, tid, c))
                have = true;
            else if (capture_slot* s = capturer::instance().ask(tid))
                have = capturer::instance().await(s, base::now() + 200'000'000, c) && !c.bytes.empty();
        }
        frames_.clear();
        if (have && c.task == id && !c.bytes.empty()) whole = unwinder_.unwind(c.registers, c.stack(), frames_);
        return frames_;
    }

  private:
    static constexpr std::size_t batch = 1024;
#if defined(MPG_USE_FCONTEXT)
    const std::uint64_t not_begun = reinterpret_cast<std::uint64_t>(&sched::task_entry);
#else
    const std::uint64_t not_begun = reinterpret_cast<std::uint64_t>(&fiber::entrance);
#endif
    struct look_at {
        sched::task* t;
        record_view view;
        std::uint64_t sp;
        base::nanos since;
        std::size_t at = 0, size = 0;
        bool same = true;
    };

    static std::uint64_t saved_sp(const sched::task& t) noexcept { return read<std::uint64_t>(&t.ex.ctx.sp); }
    static base::nanos since_of(const sched::task& t) noexcept { return read<base::nanos>(&t.since); }
    template <class T> static T read(const void* from) noexcept {
        T value;
        std::byte raw[8];
        copy_racy(raw, from, 8);
        std::memcpy(&value, raw, 8);
        return value;
    }

    void look(sched::task** records, std::size_t n, bool last, scratch<sched::task*>& again) {
        scratch<look_at> looks;
        looks.reserve(n);
        arena_.clear();
        for (std::size_t i = 0; i < n; ++i) {
            sched::task& t = *records[i];
            base::nanos since = since_of(t);
            std::atomic_thread_fence(std::memory_order_acquire);
            std::uint64_t sp = saved_sp(t);
            looks.push_back({&t, record_view(t), sp, since});
            look_at& l = looks.back();
            auto* low = MPG_DEBUG_FIELD(l.view, stack);
            if (sp == 0 || !low) continue;
            auto bottom = reinterpret_cast<std::uint64_t>(low) + rt_.stacks.guard_bytes();
            auto top = reinterpret_cast<std::uint64_t>(rt_.stacks.top(low));
            if (sp < bottom || sp >= top || sp % 8 != 0) continue;
            l.at = arena_.size();
            l.size = std::min<std::size_t>(top - sp, most_stack);
            arena_.resize(l.at + l.size);
            copy_racy(arena_.data() + l.at, reinterpret_cast<const void*>(sp), l.size);
        }
        std::atomic_thread_fence(std::memory_order_acquire);
        barrier_everywhere(); // B1
        for (look_at& l : looks) l.same = saved_sp(*l.t) == l.sp;
        std::atomic_thread_fence(std::memory_order_acquire);
        barrier_everywhere(); // B2
        for (look_at& l : looks) {
            l.same = l.same && since_of(*l.t) == l.since && read<std::uint64_t>(&l.t->id) == MPG_DEBUG_FIELD(l.view, id);
            if (!l.same && !last)
                again.push_back(l.t);
            else
                note(l);
        }
    }

    void note(const look_at& l) {
        using sched::task_state;
        task_info i;
        i.state = l.view.get<task_state>(offsetof(sched::task, state));
        if (i.state == task_state::free || i.state == task_state::ended) return;
        i.id = MPG_DEBUG_FIELD(l.view, id);
        i.created_at = MPG_DEBUG_FIELD(l.view, created_at);
        i.parent = MPG_DEBUG_FIELD(l.view, parent);
        if (MPG_DEBUG_FIELD(l.view, extras)) i.name = sched::name_of(rt_, *l.t);
        if (i.state != task_state::fresh && i.state != task_state::running && l.since != 0 && now_ > l.since)
            i.waited = std::chrono::nanoseconds(now_ - l.since);
        const sched::park_ops* wait = MPG_DEBUG_FIELD(l.view, wait);
        if (i.state == task_state::waiting && wait) i.reason = wait->reason;
        if (i.state == task_state::waiting && l.same) i.for_ever = proven::instance().of(rt_, i.id, l.since);
        if (l.same && l.size != 0 && i.state != task_state::fresh) {
            register_set r = saved(l.sp, {l.sp, arena_.data() + l.at, l.size});
            if (r.pc != not_begun) // it has a stack, but has not begun
                i.stack = unwind(r, {l.sp, arena_.data() + l.at, l.size});
        }
        out_.tasks.push_back(std::move(i));
    }

#if defined(MPG_USE_FCONTEXT) && defined(__x86_64__)
    /// How far above sp jump_fcontext saves r12; versions differ. make_fcontext leaves the function in the place of rbx.
    static std::uint64_t fcontext_registers() noexcept {
        alignas(16) std::byte stack[512]{};
        auto* f = +[](boost::context::detail::transfer_t) {};
        const void* made = boost::context::detail::make_fcontext(stack + sizeof stack, sizeof stack, f);
        std::uint64_t rbx = 40;
        for (std::uint64_t v = 0; rbx < 56; rbx += 8) {
            std::memcpy(&v, static_cast<const std::byte*>(made) + rbx, sizeof v);
            if (v == reinterpret_cast<std::uint64_t>(f)) break;
        }
        return rbx - 32;
    }
#endif
    /// What fiber::jump has left at sp.
    static register_set saved(std::uint64_t sp, const stack_copy& stack) noexcept {
        register_set r;
#if defined(MPG_USE_FCONTEXT) && defined(__x86_64__)
        // Boost.Context, x86_64 System V, ELF: MXCSR and x87 word, some a stack guard, r12 to r15, rbx, rbp, rip.
        static const std::uint64_t begins = fcontext_registers();
        constexpr unsigned order[] = {12, 13, 14, 15, 3, 6};
        for (unsigned i = 0; i < 6; ++i)
            if (std::uint64_t v; stack.read(sp + begins + 8 * i, v)) r.set(order[i], v);
        stack.read(sp + begins + 48, r.pc);
        r.set(stack_register, sp + begins + 56);
#elif defined(MPG_USE_FCONTEXT)
        // Boost.Context, aarch64 AAPCS, ELF: d8 to d15, x19 to x30, pc.
        for (unsigned i = 19; i <= 30; ++i)
            if (std::uint64_t v; stack.read(sp + 0x40 + 8 * (i - 19), v)) r.set(i, v);
        stack.read(sp + 0xa0, r.pc);
        r.set(stack_register, sp + 0xb0);
#else
        std::uint64_t rbp = 0;
        stack.read(sp, r.pc);
        if (stack.read(sp + 8, rbp)) r.set(frame_pointer, rbp);
        r.set(stack_register, sp + 16 + 128); // what the tables take rsp for where jump goes on
#endif
        return r;
    }

    std::size_t unwind(const register_set& r, const stack_copy& stack) {
        bool whole = unwinder_.unwind(r, stack, frames_);
        auto [it, fresh] = index_.try_emplace(frames_, out_.stacks.size());
        if (fresh) {
            out_.stacks.push_back(frames_);
            out_.whole.push_back(whole);
        }
        return it->second;
    }

    void set_running(const capture& c) {
        if (c.task == 0 || c.bytes.empty()) return;
        for (task_info& i : out_.tasks) {
            if (i.id != c.task) continue;
            if (i.stack == 0) i.stack = unwind(c.registers, c.stack());
            if (i.state != sched::task_state::blocking && i.state != sched::task_state::frozen) {
                i.state = sched::task_state::running; // maybe it was not yet when its record was looked at
                i.waited = {};
            }
            return;
        }
    }

    void ask_running() {
        for (const capture& c : known_) {
            for (task_info& i : out_.tasks) // it is aside only to ask us
                if (i.id == c.task) i.state = sched::task_state::running;
            set_running(c);
        }
        struct asked {
            sched::machine* m;
            int tid;
        };
        std::vector<asked> machines;
        {
            std::lock_guard hold(rt_.machines_lock);
            machines.reserve(rt_.thread_count);
            for (sched::machine* m = rt_.machines; m; m = m->next_all)
                if (int tid = m->tid.load(std::memory_order_relaxed); tid != 0 && read<std::uint64_t>(&m->cur) != 0)
                    machines.push_back({m, tid});
        }
        std::vector<capture_slot*> slots;
        capture c;
        for (auto [m, tid] : machines) {
            if (is_known(read<std::uint64_t>(&m->cur))) continue;
            if (m->frozen_at.load(std::memory_order_relaxed)) {
                // Its thread stands in a handler, on another stack. The same protocol as for a task at rest.
                for (int tries = 0; tries < 4; ++tries)
                    if (capture_frozen(*m, c)) {
                        set_running(c);
                        break;
                    }
            } else if (capture_in_syscall(*m, tid, c))
                set_running(c);
            else if (capture_slot* s = capturer::instance().ask(tid))
                slots.push_back(s);
        }
        base::nanos until = base::now() + 200'000'000;
        for (capture_slot* s : slots)
            if (capturer::instance().await(s, until, c)) set_running(c);
    }
    bool capture_frozen(sched::machine& m, capture& c) {
        auto record = read<std::uint64_t>(&m.cur);
        if (record == 0) return false;
        const auto& t = *reinterpret_cast<const sched::task*>(record);
        base::nanos since = since_of(t);
        std::atomic_thread_fence(std::memory_order_acquire);
        const void* at = m.frozen_at.load(std::memory_order_relaxed);
        ::ucontext_t context;
        std::byte* raw = reinterpret_cast<std::byte*>(&context);
        if (!at || copy_mapped(raw, reinterpret_cast<std::uint64_t>(at), sizeof context) != sizeof context) return false;
        c.task = read<std::uint64_t>(&t.id);
        c.registers = registers_of(context);
        c.base = c.registers.sp() & ~std::uint64_t{7};
        auto* low = read<char*>(&t.stack);
        if (!low) return false;
        auto top = reinterpret_cast<std::uint64_t>(rt_.stacks.top(low));
        if (c.base < reinterpret_cast<std::uint64_t>(low) + rt_.stacks.guard_bytes() || c.base >= top) return false;
        c.bytes.resize(std::min<std::size_t>(top - c.base, most_stack));
        copy_racy(c.bytes.data(), reinterpret_cast<const void*>(c.base), c.bytes.size());
        std::atomic_thread_fence(std::memory_order_acquire);
        barrier_everywhere(); // B1
        bool same = m.frozen_at.load(std::memory_order_relaxed) == at;
        barrier_everywhere(); // B2
        return same && since_of(t) == since;
    }
    bool is_known(std::uint64_t record) const {
        if (record == 0) return true;
        auto id = read<std::uint64_t>(&reinterpret_cast<const sched::task*>(record)->id);
        return std::any_of(known_.begin(), known_.end(), [&](const capture& c) { return c.task == id; });
    }

    sched::runtime_state& rt_;
    snapshot& out_;
    const std::vector<capture>& known_;
    base::nanos now_;
    scratch<std::byte> arena_;
    unwinder unwinder_;
    call_stack frames_;
    std::unordered_map<call_stack, std::size_t, hash_frames> index_;
};

/// Keeps all runtimes from being freed.
class pinned {
  public:
    pinned() {
        // No allocation under the registry's lock: more than these at once are not looked at.
        all_.reserve(64);
        sched::registry::instance().pin_all([&](sched::runtime_state& rt) {
            if (all_.size() < all_.capacity())
                all_.push_back(&rt);
            else
                rt.pins.fetch_sub(1, std::memory_order_relaxed);
        });
    }
    ~pinned() {
        for (auto* rt : all_) sched::unpin(*rt);
    }
    pinned(const pinned&) = delete;
    pinned& operator=(const pinned&) = delete;
    auto begin() const { return all_.begin(); }
    auto end() const { return all_.end(); }
    std::size_t size() const { return all_.size(); }

  private:
    std::vector<sched::runtime_state*> all_;
};

} // namespace detail
} // namespace mpg::debug
