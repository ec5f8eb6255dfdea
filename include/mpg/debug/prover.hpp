// The search for tasks that can never go on, in the stopped world. What is looked for and why it is a proof: prove.hpp.
#pragma once

#include <mpg/debug/reachable.hpp>
#include <mpg/sched/run_in_place.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace mpg::debug::detail {

/// Finds out. Everything between prepare and the result runs in the stopped world: no allocation, no lock but by trying.
class prover {
  public:
    struct found {
        sched::task* t;
        const void* channel; // null: no channel, or several
        std::uint32_t handles;
        bool never;
    };

    prover(arena& memory, const std::vector<sched::runtime_state*>& runtimes, std::uint64_t most_bytes)
        : memory_(memory), runtimes_(runtimes), most_bytes_(most_bytes) {}

    /// The stack of the thread that asks: none of its frames leads anywhere.
    void ignore(std::uint64_t lo, std::uint64_t hi) noexcept { own_ = {lo, hi}; }

    void operator()(arena_list<stopped_thread>& threads) noexcept {
        const base::nanos begin = base::now();
        why_ = look(threads);
        took_ = base::now() - begin;
    }

    const char* failure() const noexcept { return why_; }
    arena_list<found>& stuck() noexcept { return stuck_; }
    std::size_t candidates() const noexcept { return candidates_; }
    std::uint64_t bytes() const noexcept { return reach_.scanned(); }
    base::nanos took() const noexcept { return took_; }

  private:
    struct stack_use {
        std::uint64_t low, sp; // sp 0: not at rest
        sched::runtime_state* rt;
        sched::task* t;
        bool shared, occupied;
        std::uint64_t running_sp; // of a thread that stands in it
    };
    struct channel {
        std::uint64_t at;
        std::size_t bytes;
        std::uint32_t handles;
        std::uint32_t group;
    };
    struct candidate {
        sched::task* t;
        const void* channel;
        std::uint32_t channels, handles;
        bool never, private_argument;
    };
    struct collecting : sched::wait_view {
        prover* self;
        candidate* c;
    };

    const char* look(arena_list<stopped_thread>& threads) noexcept {
        std::size_t records = 0, blocks = 0;
        for (sched::runtime_state* rt : runtimes_) {
            for (sched::record_slab* s = rt->slabs; s; s = s->next) records += sched::record_slab::count;
            blocks += rt->ps.size() * sched::block_cache::most_blocks;
        }
        if (!stacks_.reserve(memory_, records) || !candidates_list_.reserve(memory_, records) ||
            !channels_.reserve(memory_, 8 * records) || !stuck_.reserve(memory_, records))
            return no_room;
        for (sched::runtime_state* rt : runtimes_) collect_stacks(*rt);
        std::sort(stacks_.begin(), stacks_.end(), [](const stack_use& a, const stack_use& b) { return a.low < b.low; });
        for (std::size_t i = 1; i < stacks_.size(); ++i)
            if (stacks_[i - 1].low == stacks_[i].low) stacks_[i - 1].shared = stacks_[i].shared = true;
        place(threads);
        for (stack_use& u : stacks_)
            if (const char* why = consider(u)) return why;
        candidates_ = candidates_list_.size();
        for (candidate& c : candidates_list_) // no search can refute these, but they may be all who hold something
            if (c.never) stuck_.push({c.t, nullptr, 0, true});
        if (stuck_.size() == candidates_) return nullptr;

        std::sort(channels_.begin(), channels_.end(), [](const channel& a, const channel& b) { return a.at < b.at; });
        channels_.resize(static_cast<std::size_t>(
            std::unique(channels_.begin(), channels_.end(), [](const channel& a, const channel& b) { return a.at == b.at; }) -
            channels_.begin()));
        const std::size_t groups = candidates_list_.size() + channels_.size();
        if (!reach_.prepare(memory_, groups, 2 * records + blocks + 8192)) return no_room;
        reach_.group(static_cast<std::uint32_t>(groups));
        if (!describe() || !describe_dead(threads)) return no_room;
        if (const char* why = reach_.run(threads, most_bytes_)) return why;
        for (std::uint32_t g = 0; g < candidates_list_.size(); ++g) {
            const candidate& c = candidates_list_[g];
            if (!c.never && !reach_.is_reached(g)) stuck_.push({c.t, c.channels == 1 ? c.channel : nullptr, c.handles, false});
        }
        return nullptr;
    }

    static std::uint64_t word(const void* p) noexcept { return reinterpret_cast<std::uint64_t>(p); }
    static std::uint64_t slot_end(const stack_use& u) noexcept { return u.low + u.rt->stacks.slot_bytes(); }

    void collect_stacks(sched::runtime_state& rt) noexcept {
        for (sched::record_slab* s = rt.slabs; s; s = s->next)
            for (sched::task& t : s->records) {
                if (!t.stack) continue;
                const auto state = t.get_state();
                std::uint64_t sp = word(t.ex.ctx.sp);
                const std::uint64_t low = word(t.stack);
                const bool rests = (state == sched::task_state::waiting || state == sched::task_state::runnable) &&
                                   t.wait != &sched::hosting && sp % 8 == 0 && sp >= low + rt.stacks.guard_bytes() &&
                                   sp < word(rt.stacks.top(t.stack));
                stacks_.push({low, rests ? sp : 0, &rt, &t, false, false, 0});
            }
    }
    // Which stacks threads stand in.
    void place(arena_list<stopped_thread>& threads) noexcept {
        for (stopped_thread& th : threads) {
            auto it = std::upper_bound(stacks_.begin(), stacks_.end(), th.sp,
                                       [](std::uint64_t v, const stack_use& u) { return v < u.low; });
            while (it != stacks_.begin() && th.sp < slot_end(*(it - 1))) {
                --it;
                it->occupied = true;
                it->running_sp = th.sp;
            }
        }
    }

    static void block(sched::wait_view& v, const void* at, std::size_t bytes, std::uint32_t handles) noexcept {
        auto& c = static_cast<collecting&>(v);
        if (!c.self->channels_.push({word(at), bytes, handles, 0})) c.self->full_ = true;
        c.c->channel = at;
        c.c->handles = handles;
        ++c.c->channels;
    }
    const char* consider(stack_use& u) noexcept {
        sched::task& t = *u.t;
        if (u.sp == 0 || u.shared || u.occupied || t.get_state() != sched::task_state::waiting || !t.wait || !t.wait->look)
            return nullptr;
        candidate c{&t, nullptr, 0, 0, false, false};
        collecting view;
        view.self = this;
        view.c = &c;
        view.block = &prover::block;
        const std::size_t before = channels_.size();
        t.wait->look(t.wait_arg, view);
        if (full_) return no_room;
        c.never = view.never;
        c.private_argument = view.private_argument;
        if (view.pending || view.never)
            candidates_list_.push(c);
        else
            channels_.resize(before);
        return nullptr;
    }
    bool describe() noexcept {
        std::uint32_t g = 0;
        for (candidate& c : candidates_list_) {
            sched::task& t = *c.t;
            const std::uint64_t sp = word(t.ex.ctx.sp), top = word(t.rt->stacks.top(t.stack));
            // Not the saved registers themselves: they are no object that anybody knows.
            const std::uint64_t arg = c.private_argument ? word(t.wait_arg) : 0;
            if (arg >= sp + 16 && arg < top) {
                if (!reach_.target(g, sp + 16, arg) || !reach_.target(g, arg + 1, top)) return false;
            } else if (!reach_.target(g, sp + 16, top)) {
                return false;
            }
            if (!reach_.content(g, sp, top)) return false;
            if (!reach_.target(g, word(t.storage), word(t.storage) + sched::task::storage_bytes) ||
                !reach_.content(g, word(&t), word(&t + 1)))
                return false;
            if (t.on_heap) {
                const auto& c_at = *reinterpret_cast<const sched::task::elsewhere*>(t.storage);
                if (!reach_.target(g, word(c_at.at), word(c_at.at) + c_at.bytes) ||
                    !reach_.content(g, word(c_at.at), word(c_at.at) + c_at.bytes))
                    return false;
            }
            ++g;
        }
        for (channel& c : channels_) {
            c.group = g;
            if (!reach_.target(g, c.at, c.at + 1) || !reach_.content(g, c.at, c.at + c.bytes)) return false;
            ++g;
        }
        return true;
    }

    // ---- what leads nowhere

    bool describe_dead(arena_list<stopped_thread>& threads) noexcept {
        bool ok = reach_.dead(memory_.low(), memory_.high()) && reach_.dead(own_.lo, own_.hi);
        std::size_t i = 0;
        for (std::size_t end; i < stacks_.size() && ok; i = end) {
            stack_use& u = stacks_[i];
            for (end = i + 1; end < stacks_.size() && stacks_[end].low == u.low;) ++end;
            if (u.shared) continue;
            if (u.sp != 0 && !u.occupied)
                ok = reach_.dead(u.low, u.sp);
            else if (u.sp == 0 && u.occupied && u.running_sp - u.low > 256) // 128 below the stack pointer are in use
                ok = reach_.dead(u.low, (u.running_sp - 128) & ~std::uint64_t{7});
        }
        for (sched::runtime_state* rt : runtimes_) ok = ok && free_stacks(*rt) && free_records(*rt, threads) && old_arguments(*rt);
        return ok;
    }
    // A slot is a task's from before the first frame until after the last, so what is no task's holds nothing of a user.
    bool free_stacks(sched::runtime_state& rt) noexcept {
        bool ok = true;
        const std::size_t slot = rt.stacks.slot_bytes();
        (void)rt.stacks.try_each_slab([&](const char* from, const char* to) {
            auto it = std::lower_bound(stacks_.begin(), stacks_.end(), word(from),
                                       [](const stack_use& u, std::uint64_t v) { return u.low < v; });
            std::uint64_t at = word(from);
            for (; it != stacks_.end() && it->low < word(to); ++it) {
                ok = ok && reach_.dead(at, it->low);
                at = it->low + slot;
            }
            ok = ok && reach_.dead(at, word(to));
        });
        return ok;
    }
    // Records in a pool keep the bytes of old closures, free blocks those of old channels. A pool is in order unless its
    // owner was stopped within the runtime; in a system call nothing is half done. A record is out of the pool before its
    // closure is made, a block before it is used: the end of the runtime_section, or of a function that is not inlined, lies
    // between.
    bool free_records(sched::runtime_state& rt, arena_list<stopped_thread>& threads) noexcept {
        bool ok = true;
        auto pool = [&](sched::task* t) {
            for (; t && t->get_state() == sched::task_state::free && ok; t = t->next) ok = reach_.dead(word(t), word(t + 1));
        };
        if (rt.records_lock.try_lock()) {
            pool(rt.free_tasks);
            for (sched::task* b = rt.free_batches; b && ok; b = static_cast<sched::task*>(b->wait_arg)) pool(b);
            rt.records_lock.unlock();
        }
        for (auto& p : rt.ps) {
            sched::machine* m = p->m.load(std::memory_order_relaxed);
            if (m && m->in_runtime.load(std::memory_order_relaxed) != 0 &&
                !in_syscall(threads, m->tid.load(std::memory_order_relaxed)))
                continue;
            pool(p->free_tasks);
            pool(p->full_batch);
            ok = ok && p->blocks.each([&](const void* at, std::size_t bytes) { return reach_.dead(word(at), word(at) + bytes); });
        }
        return ok;
    }
    static bool in_syscall(arena_list<stopped_thread>& threads, int tid) noexcept {
        for (stopped_thread& t : threads)
            if (t.tid == tid) return t.in_syscall;
        return false;
    }
    // The argument of the last commit, which has run, and where a task stood that has ended.
    bool old_arguments(sched::runtime_state& rt) noexcept {
        bool ok = true;
        if (!rt.machines_lock.try_lock()) return true;
        for (sched::machine* m = rt.machines; m && ok; m = m->next_all)
            ok = reach_.dead(word(&m->ended.ctx), word(&m->ended.ctx + 1)) &&
                 (m->finish || reach_.dead(word(&m->finish_arg), word(&m->finish_arg + 1)));
        rt.machines_lock.unlock();
        return ok;
    }

    static constexpr const char* no_room = "there is no memory to work with";

    arena& memory_;
    const std::vector<sched::runtime_state*>& runtimes_;
    const std::uint64_t most_bytes_;
    reach::span own_{0, 0};
    reach reach_;
    arena_list<stack_use> stacks_;
    arena_list<candidate> candidates_list_;
    arena_list<channel> channels_;
    arena_list<found> stuck_;
    std::size_t candidates_ = 0;
    base::nanos took_ = 0;
    const char* why_ = nullptr;
    bool full_ = false;
};

} // namespace mpg::debug::detail
