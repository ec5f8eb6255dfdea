// Task records: taken from and given back to the pools of the Ps.
#pragma once

#include <mpg/base/wipe.hpp>
#include <mpg/sched/runtime_state.hpp>

#include <type_traits>

namespace mpg::sched {

// Free records go round in batches: a P has one that it takes from and gives to, and at most one more, which is full; what
// is beyond goes to the runtime as a whole, so that a lock is taken once for a batch, also where one P starts tasks and
// another one ends them. A batch is a list by next; its first record names the next batch of the runtime (wait_arg).

inline constexpr std::uint32_t record_batch = record_slab::count;

/// The records of a new slab, as a batch in the order of their addresses. records_lock is not held.
inline task* add_slab(runtime_state& rt) {
    auto* s = new record_slab;
    for (std::size_t i = 0; i + 1 < record_slab::count; ++i) s->records[i].next = &s->records[i + 1];
    std::lock_guard hold(rt.records_lock);
    s->next = rt.slabs;
    rt.slabs = s;
    return s->records;
}

/// A batch of the runtime, or null. Under records_lock.
inline task* take_batch(runtime_state& rt) noexcept {
    task* first = rt.free_batches;
    if (first) {
        rt.free_batches = static_cast<task*>(first->wait_arg);
        first->wait_arg = nullptr;
    }
    return first;
}

/// A P without free records gets some. Owner of p.
MPG_NOINLINE inline void refill_records(runtime_state& rt, processor& p) {
    if (p.full_batch) {
        p.free_tasks = std::exchange(p.full_batch, nullptr);
        p.free_count = record_batch;
        return;
    }
    {
        std::lock_guard hold(rt.records_lock);
        if ((p.free_tasks = take_batch(rt))) {
            p.free_count = record_batch;
            return;
        }
        while (rt.free_tasks && p.free_count < record_batch) {
            task* moved = rt.free_tasks;
            rt.free_tasks = moved->next;
            moved->next = p.free_tasks;
            p.free_tasks = moved;
            ++p.free_count;
        }
    }
    if (p.free_tasks) return;
    p.free_tasks = add_slab(rt);
    p.free_count = record_batch;
}

/// From a thread without a P of rt.
MPG_NOINLINE inline task* take_shared_record(runtime_state& rt) {
    task* t;
    {
        std::lock_guard hold(rt.records_lock);
        if (!rt.free_tasks) rt.free_tasks = take_batch(rt);
        if ((t = rt.free_tasks)) rt.free_tasks = t->next;
    }
    if (!t) {
        t = add_slab(rt);
        std::lock_guard hold(rt.records_lock);
        t[record_slab::count - 1].next = rt.free_tasks;
        rt.free_tasks = t->next;
    }
    t->id = rt.next_id.fetch_add(1, std::memory_order_relaxed);
    rt.foreign_created.fetch_add(1, std::memory_order_release);
    return t;
}

/// A record with an id. In a runtime_section. Throws std::bad_alloc.
inline task* take_record(runtime_state& rt, processor* p) {
    task* t;
    if (p) [[likely]] {
        if (!p->free_tasks) [[unlikely]] refill_records(rt, *p);
        t = p->free_tasks;
        p->free_tasks = t->next;
        --p->free_count;
        if (p->next_id == p->end_id) [[unlikely]] {
            p->next_id = rt.next_id.fetch_add(256, std::memory_order_relaxed);
            p->end_id = p->next_id + 256;
        }
        t->id = p->next_id++;
        bump(p->created);
    } else {
        t = take_shared_record(rt);
    }
    t->next = nullptr;
    t->rt = &rt;
    return t;
}

/// The P's batch is full, or there is no P.
MPG_NOINLINE inline void give_batch(task* t, processor* p) noexcept {
    runtime_state& rt = *t->rt;
    if (!p) {
        std::lock_guard hold(rt.records_lock);
        t->next = rt.free_tasks;
        rt.free_tasks = t;
        return;
    }
    if (task* full = std::exchange(p->full_batch, p->free_tasks)) {
        std::lock_guard hold(rt.records_lock);
        full->wait_arg = rt.free_batches;
        rt.free_batches = full;
    }
    t->next = nullptr;
    p->free_tasks = t;
    p->free_count = 1;
}

/// In a runtime_section, or on a scheduler's stack. p: the caller's, or null.
MPG_ALWAYS_INLINE void free_record(task* t, processor* p) noexcept {
    t->set_state(task_state::free);
    if (!p || p->free_count == record_batch) [[unlikely]] return give_batch(t, p);
    t->next = p->free_tasks;
    p->free_tasks = t;
    ++p->free_count;
}

/// One of the two holders of a record, the run and a handle, lets go of it. True: it was the last.
inline bool drops_last(task* t) noexcept {
    return t->refs.load(std::memory_order_acquire) == 1 ||
           t->refs.fetch_sub(1, std::memory_order_acq_rel) == 1; // pairs with: the other holder's drop
}
/// To the allocator. What is left in the records leads to stacks, closures and each other.
MPG_NOINLINE inline void delete_slab(record_slab* s) noexcept {
    static_assert(std::is_trivially_destructible_v<record_slab>);
    base::wipe(s, sizeof *s);
    delete s;
}

/// The handle's side, from anywhere.
inline void drop_record(task* t) noexcept {
    if (!drops_last(t)) return;
    runtime_section here;
    if (here.m && here.m->rt == __atomic_load_n(&t->rt, __ATOMIC_RELAXED)) [[likely]]
        if (processor* p = here.m->p) [[likely]] return free_record(t, p);
    base::spinlock& lock = records_at_large();
    lock.lock();
    if (t->rt) {
        free_record(t, nullptr);
    } else { // its runtime is gone: release_records
        auto* slab = static_cast<record_slab*>(t->wait_arg);
        if (--slab->held == 0) delete_slab(slab);
    }
    lock.unlock();
}
/// The exception of a task is dropped, by whoever holds its record.
inline void count_dropped_exception(task* t) noexcept {
    runtime_section here;
    base::spinlock& lock = records_at_large();
    lock.lock();
    if (t->rt) t->rt->dropped_exceptions.fetch_add(1, std::memory_order_relaxed);
    lock.unlock();
}

/// Frees the slabs, but for those with records that handles hold: the last such handle frees its slab.
inline void runtime_state::release_records() noexcept {
    base::spinlock& lock = records_at_large();
    lock.lock();
    while (record_slab* s = slabs) {
        slabs = s->next;
        for (task& t : s->records) {
            if (t.get_state() != task_state::ended) continue;
            ++s->held;
            t.wait_arg = s;
            __atomic_store_n(&t.rt, nullptr, __ATOMIC_RELAXED);
        }
        if (s->held == 0) delete_slab(s);
    }
    lock.unlock();
}

} // namespace mpg::sched
