// Who is told of stalls: options::on_stall, on a thread of its own.
//
// The monitor finds them (monitor.hpp), and may not allocate: a task that it has frozen may hold malloc's lock. So it
// leaves what it has seen in a ring of fixed size; the reporter's thread asks for the stack (debug room: by signal, or
// from the frozen thread's context), and calls the hook. If it comes to wait for such a lock, it waits for that task's
// next turn, and nobody waits for it.
#pragma once

#include <mpg/sched/fatal.hpp>

#include <array>
#include <mutex>
#include <string>
#include <utility>

namespace mpg::sched {

class stall_reporter {
  public:
    /// Starts the thread. False: none could be had.
    bool start(runtime_state& rt) noexcept {
        rt_ = &rt;
        ::pthread_attr_t attr;
        ::pthread_attr_init(&attr);
        ::pthread_attr_setstacksize(&attr, 1 << 20); // it runs a user's function
        running_ = ::pthread_create(&thread_, &attr, &main, this) == 0;
        ::pthread_attr_destroy(&attr);
        return running_;
    }
    /// After the monitor has ended. Waits for a call of the hook that is under way.
    void stop() noexcept {
        if (!running_) return;
        ends_.store(true, std::memory_order_release); // pairs with: run
        wake_.set();
        ::pthread_join(thread_, nullptr);
        running_ = false;
    }
    /// Does its thread wait, with nothing to do, so that it can wake no task? What it did before is visible then.
    bool quiet() noexcept {
        std::lock_guard hold(lock_);
        return running_ && quiet_;
    }

    /// By the monitor. Allocates nothing; full: dropped.
    void note(machine& m, const task& t, std::uint64_t id, stall::reason why, base::nanos so_long) noexcept {
        if (!running_) return;
        {
            std::lock_guard hold(lock_);
            if (n_ == notes_.size()) return;
            notes_[(first_ + n_++) % notes_.size()] = {&m, &t, id, why, so_long};
            quiet_ = false;
        }
        wake_.set();
    }

  private:
    struct noted {
        machine* m;
        const task* t; // a record stands as long as the runtime; who it is of is looked at again
        std::uint64_t id;
        stall::reason why;
        base::nanos so_long;
    };

    static void* main(void* arg) {
        static_cast<stall_reporter*>(arg)->run();
        return nullptr;
    }
    void run() {
        for (noted n{};; wake_.wait()) {
            while (!ends_.load(std::memory_order_acquire) && take(n)) tell(n); // pairs with: stop
            if (ends_.load(std::memory_order_acquire)) return; // pairs with: stop
        }
    }
    bool take(noted& n) noexcept {
        std::lock_guard hold(lock_);
        quiet_ = n_ == 0;
        if (quiet_) return false;
        n = notes_[first_];
        first_ = (first_ + 1) % notes_.size();
        --n_;
        return true;
    }
    void tell(const noted& n) {
        stall s;
        s.task = n.id;
        s.why = n.why;
        s.for_so_long = std::chrono::nanoseconds(n.so_long);
        if (auto* stack = the_report_writer().stack) s.stack = stack(*rt_, *n.m, n.id);
        std::string name = name_of(*n.t);
        const void* created_at = read_racy(n.t->created_at);
        if (read_racy(n.t->id) == n.id) { // else it has ended, and the record is another's
            s.name = std::move(name);
            s.created_at = describe_site(created_at);
        }
        rt_->opts.on_stall(s);
    }

    runtime_state* rt_ = nullptr;
    ::pthread_t thread_{};
    bool running_ = false; // written before the monitor starts, and after it has ended
    base::atomic<bool> ends_{false};
    event wake_;
    base::spinlock lock_; // guards all below
    std::array<noted, 16> notes_{};
    std::size_t first_ = 0, n_ = 0;
    bool quiet_ = false; // its thread waits, and the ring is empty
};

} // namespace mpg::sched
