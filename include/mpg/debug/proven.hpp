// What was proved of tasks, for those who show them.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/sched/runtime_state.hpp>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

namespace mpg::debug::detail {

/// Tasks that wait for ever. A task is known by its runtime, its id and when its wait began.
class proven {
  public:
    static proven& instance() {
        static proven& p = *new proven;
        return p;
    }
    void add(const sched::task& t, const std::string& why) {
        std::lock_guard hold(mutex_);
        if (all_.size() == most) all_.erase(all_.begin());
        all_[{t.rt, t.id, t.since}] = why;
        size_.store(all_.size(), std::memory_order_release); // pairs with: of
    }
    /// "task 17 waits for ever: ..."; "" when nothing is known.
    std::string of(const sched::runtime_state& rt, std::uint64_t id, base::nanos since) {
        if (size_.load(std::memory_order_acquire) == 0) return {}; // pairs with: add
        std::lock_guard hold(mutex_);
        auto it = all_.find({&rt, id, since});
        return it == all_.end() ? std::string() : it->second;
    }

  private:
    static constexpr std::size_t most = 1 << 16;

    std::mutex mutex_; // guards all_; never held over a wait
    std::map<std::tuple<const sched::runtime_state*, std::uint64_t, base::nanos>, std::string> all_;
    base::atomic<std::size_t> size_{0};
};

} // namespace mpg::debug::detail
