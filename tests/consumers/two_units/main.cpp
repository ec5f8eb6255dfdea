// All doors in two translation units, linked into one program: exit status 0 when both see one runtime.
#include "all_doors.hpp"

#include "other.hpp"

#include <chrono>
#include <iostream>

namespace {

int check(bool ok, const char* what) {
    if (!ok) std::cerr << "failed: " << what << '\n';
    return ok ? 0 : 1;
}

int checks() {
    int failures = 0;
    mpg::chan<int> numbers;
    produce(numbers, 100);
    int sum = 0;
    for (int n : numbers) sum += n;
    failures += check(sum == 4950, "the sum of what the other unit sent");

    mpg::task<int> answer = mpg::spawn([] {
        mpg::yield();
        return check(task_seen_by_other_unit() == mpg::this_task::id(), "one task") +
               check(runtime_seen_by_other_unit() == mpg::runtime::current(), "one runtime");
    });
    failures += answer.join();

    bool timed_out = false;
    mpg::select(mpg::on_recv(mpg::chan<int>(), [](std::optional<int>) {}),
                mpg::on_timeout(std::chrono::milliseconds(1), [&] { timed_out = true; }));
    failures += check(timed_out, "select times out");
    return failures;
}

} // namespace

int main() {
    int failures = mpg::run(checks);
    failures += check(mpg::runtime::current() == nullptr, "no runtime is left");
    return failures;
}
