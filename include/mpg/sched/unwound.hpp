// What ends the tasks of a runtime that stops.
#pragma once

namespace mpg {

/// Thrown from a task's suspension points while its runtime stops, so that destructors run. Not a std::exception. Let
/// it pass: a handler that swallows it is reported on stderr with the task's name, and the next suspension throws
/// again.
class unwound {
  public:
    unwound() noexcept = default;
    unwound(const unwound&) noexcept : copy_(true) {}
    unwound& operator=(const unwound&) = delete;
    ~unwound();

  private:
    bool copy_ = false; // only the death of the original means that it was caught
};

} // namespace mpg
