// runtime and run: starting the machinery, and ending it.
//
// It stands in this room because runtime::spawn gives a task handle.
#pragma once

#include <mpg/cancel/task_handle.hpp>
#include <mpg/sched/blocking.hpp>
#include <mpg/sched/cpu_quota.hpp>
#include <mpg/sched/stop.hpp>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>

namespace mpg {

/// A runtime held as an object: for tests, and for programs that own their threads. Several may live at once.
class runtime {
  public:
    /// Starts it. Throws std::system_error when options or environment ask for a poller that the system refuses.
    explicit runtime(options o = {}) : rt_(std::make_unique<sched::runtime_state>(check(o))), self_(this) {
        sched::runtime_state& rt = *rt_;
        unsigned n = rt.opts.procs ? rt.opts.procs : sched::default_procs();
        rt.opts.procs = n;
        rt.may_spin = sched::affinity_cpus() > 1;
        netpoll wanted = rt.opts.backend;
        if (const char* text = std::getenv("MPG_NETPOLL")) {
            if (!std::strcmp(text, "io_uring")) wanted = netpoll::io_uring;
            else if (!std::strcmp(text, "epoll")) wanted = netpoll::epoll;
            else if (std::strcmp(text, "automatic") && *text)
                throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                                        "MPG_NETPOLL: io_uring, epoll or automatic");
        }
        sched::poller_set set = sched::make_pollers(wanted, n);
        if (set.kind == netpoll::none && wanted != netpoll::automatic)
            throw std::system_error(std::make_error_code(std::errc::operation_not_supported),
                                    std::string("mpg: the poller ") + to_string(wanted) +
                                        " cannot be had: " + set.reason);
        rt.poller_kind = set.kind;
        rt.poller_reason = set.reason;
        for (unsigned i = 0; i < n; ++i) {
            rt.ps.push_back(std::make_unique<sched::processor>(rt, i, rt.stacks, rt.global));
            rt.ps[i]->poll = std::move(set.pollers[i]);
            rt.ps[i]->alone = n == 1;
        }
        for (unsigned i = n; i-- > 0;) sched::enter_idle(rt, *rt.ps[i]);
        if (rt.opts.record_events != 0) sched::probe::start_recording(rt, rt.opts.record_events);
        sched::start_monitor(rt);
        sched::registry::instance().add(rt);
    }
    runtime(const runtime&) = delete;
    runtime& operator=(const runtime&) = delete;
    ~runtime() {
        stop();
        if (rt_->abandoned.load(std::memory_order_acquire)) static_cast<void>(rt_.release()); // threads still use it
    }

    /// Runs main as a task and waits for it; returns its result (references as references), rethrows its exception.
    /// The runtime goes on until stop(). From any thread that is no task of this runtime.
    template <class F> std::invoke_result_t<std::decay_t<F>> run(F main) {
        using result = std::invoke_result_t<std::decay_t<F>>;
        if (stopped_) throw std::logic_error("mpg: the runtime is stopped");
        cancel::result_state<result> state;
        sched::event ended;
        auto body = [&state, &ended, &rt = *rt_, main = std::move(main)]() mutable {
            auto call = [&main]() -> result { return std::move(main)(); };
            struct at_end {
                sched::runtime_state& rt;
                sched::event& e;
                at_end(sched::runtime_state& r, sched::event& ev) noexcept : rt(r), e(ev) {
                    rt.waiting_callers.fetch_add(1, std::memory_order_acq_rel); // the caller only waits by now
                }
                ~at_end() {
                    // From here on the caller is no waiting thread: it will stop the runtime, or ask more of it.
                    rt.waiting_callers.fetch_sub(1, std::memory_order_acq_rel);
                    e.set();
                }
            } last{rt, ended};
            try {
                state.run(call);
            } catch (const unwound&) {
                state.unwound = true;
                throw;
            } catch (...) {
                state.error = std::current_exception();
            }
        };
        sched::go_on(*rt_, sched::here(), std::move(body));
        auto wait = [&] { ended.wait(); };
        if (sched::this_machine() && sched::this_machine()->rt)
            blocking(wait);
        else
            wait();
        if (state.unwound) throw unwound();
        if (state.error) std::rethrow_exception(state.error);
        return state.take();
    }

    /// Starts a task of this runtime, from any thread. After stop() the closure is only destroyed.
    template <class F, class... Args> MPG_ALWAYS_INLINE void go(F&& f, Args&&... args) {
        sched::go_on(*rt_, sched::here(), std::forward<F>(f), std::forward<Args>(args)...);
    }
    /// As mpg::spawn, on this runtime, from any thread.
    template <class F, class... Args>
    MPG_ALWAYS_INLINE task<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>> spawn(F&& f, Args&&... args) {
        return cancel_spawn_on<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>>(
            *rt_, sched::here(), std::forward<F>(f), std::forward<Args>(args)...);
    }

    /// Unwinds all tasks, cancels operations in flight, joins all threads. From a thread that is no task of this
    /// runtime (for one: std::system_error(resource_deadlock_would_occur)); a second call does nothing. What does not end
    /// within a grace time is reported on stderr.
    void stop() {
        if (current() == this)
            throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                                    "mpg::runtime::stop, called by a task of that runtime");
        if (std::exchange(stopped_, true)) return;
        if (sched::this_machine() && sched::this_machine()->rt)
            blocking([this] { sched::stop_runtime(*rt_); });
        else
            sched::stop_runtime(*rt_);
    }

    runtime_stats stats() const {
        sched::runtime_state& rt = *rt_;
        runtime_stats s;
        s.procs = static_cast<unsigned>(rt.ps.size());
        s.tasks = rt.live();
        s.tasks_created = rt.foreign_created.load(std::memory_order_relaxed);
        for (auto& p : rt.ps) {
            s.tasks_created += p->created.load(std::memory_order_relaxed);
            s.steals += p->steals.load(std::memory_order_relaxed);
            for (std::size_t i = 0; i < latency_histogram::size; ++i) {
                s.sched_latency.counts[i] += p->latency[i].load(std::memory_order_relaxed);
                s.wait_time.counts[i] += p->waited[i].load(std::memory_order_relaxed);
            }
        }
        sched::for_each_task(rt, [&](sched::task& t) {
            switch (t.get_state()) {
            case sched::task_state::fresh:
            case sched::task_state::runnable: ++s.tasks_runnable; break;
            case sched::task_state::running: ++s.tasks_running; break;
            case sched::task_state::waiting: ++s.tasks_waiting; break;
            case sched::task_state::blocking: ++s.tasks_blocking; break;
            case sched::task_state::frozen: ++s.tasks_frozen; break;
            default: break;
            }
        });
        {
            std::lock_guard hold(rt.machines_lock);
            s.threads = rt.thread_count;
            s.threads_idle = rt.spare_count;
        }
        s.threads_idle += std::min<std::size_t>(rt.idle_count.load(std::memory_order_relaxed), s.threads);
        s.handoffs = rt.handoffs.load(std::memory_order_relaxed) + rt.retakes.load(std::memory_order_relaxed);
        s.preemptions = rt.preemptions.load(std::memory_order_relaxed);
        s.preemption_reason = rt.preemption_reason;
        s.retake_reason = rt.retake_reason;
        s.poller = rt.poller_kind;
        s.poller_reason = rt.poller_reason;
        s.stack_bytes_mapped = rt.stacks.mapped_bytes();
        s.stack_bytes_resident_estimate = rt.stacks.touched_slots() * fiber::stack_pool::page;
        s.stalls = rt.stalls.load(std::memory_order_relaxed);
        s.dropped_exceptions = rt.dropped_exceptions.load(std::memory_order_relaxed);
        return s;
    }

    /// The runtime of the calling task; null on a plain thread.
    static runtime* current() noexcept {
        sched::machine* m = sched::this_machine();
        return m && m->rt ? static_cast<runtime*>(m->rt->owner) : nullptr;
    }

  private:
    static const options& check(const options& o) {
        if (o.procs > 4096) throw std::invalid_argument("mpg::options::procs: at most 4096");
        if (o.guard_size > (std::size_t{1} << 30)) throw std::invalid_argument("mpg::options::guard_size: at most 1 GiB");
        if (o.stack_size > (std::size_t{1} << 30)) throw std::invalid_argument("mpg::options::stack_size: at most 1 GiB");
        return o;
    }

    std::unique_ptr<sched::runtime_state> rt_;
    struct set_owner {
        explicit set_owner(runtime* self) { self->rt_->owner = self; }
    } self_;
    bool stopped_ = false;
};

/// Starts a runtime, runs main as its first task, stops the runtime, and returns main's result or rethrows its
/// exception. This is also how a program's main() is written.
template <class F> std::invoke_result_t<std::decay_t<F>> run(options o, F main) {
    runtime rt(o);
    return rt.run(std::move(main));
}
template <class F>
    requires std::invocable<std::decay_t<F>>
std::invoke_result_t<std::decay_t<F>> run(F main) {
    return mpg::run(options{}, std::move(main));
}

} // namespace mpg
