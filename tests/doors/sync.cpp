#include <mpg/sync.hpp>

int main() {
    mpg::mutex m;
    std::unique_lock lock(m);
    mpg::shared_mutex s;
    s.lock_shared();
    s.unlock_shared();
    mpg::semaphore places(1);
    places.acquire();
    mpg::condition_variable().notify_all();
    mpg::latch(0).wait();
    mpg::barrier<>(1).arrive_and_wait();
    mpg::once().call([] {});
    mpg::wait_group group;
    try {
        group.go([] {}); // no runtime is alive
        return 1;
    } catch (const std::logic_error&) {
    }
    group.wait();
    return *mpg::pool<int>().get();
}
