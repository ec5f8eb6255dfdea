// Turns of strands that do something one after another.
#pragma once

#include <mpg/cancel/context.hpp>
#include <mpg/sync/semaphore.hpp>

#include <system_error>

namespace mpg::tls::detail {

/// The holder's place in a semaphore of one: the others wait in the order in which they came.
class turn {
  public:
    explicit turn(semaphore& s) noexcept
        : of_(&s) {}
    turn(const turn&) = delete;
    turn& operator=(const turn&) = delete;
    ~turn() { give(); }
    [[nodiscard]] std::error_code take(const context& ctx) {
        const std::error_code e = of_->acquire(ctx, 1);
        held_ = !e;
        return e;
    }
    [[nodiscard]] bool try_take() noexcept { return held_ = of_->try_acquire(1); }
    void give() noexcept {
        if (held_) of_->release(1);
        held_ = false;
    }

  private:
    semaphore* of_;
    bool held_ = false;
};

} // namespace mpg::tls::detail
