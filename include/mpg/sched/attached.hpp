// What the rooms below keep for each runtime: one object of a type, made at its first use.
#pragma once

#include <mpg/sched/runtime_state.hpp>

#include <memory>
#include <mutex>
#include <utility>

namespace mpg::sched {

template <class T> [[gnu::visibility("default")]] inline constexpr char attached_key = 0; // its address names T

/// The runtime's T; make() -> std::shared_ptr<T> is called when it has none yet, maybe by several at once, of which one
/// counts. The runtime holds it until its end, and so does the caller.
template <class T, class Make> std::shared_ptr<T> attached(runtime_state& rt, Make make) {
    std::shared_ptr<void> found;
    auto look = [&] {
        for (auto& a : rt.attached)
            if (a.first == &attached_key<T>) found = a.second;
    };
    {
        std::lock_guard hold(rt.attached_lock);
        look();
    }
    if (!found) {
        std::pair<const void*, std::shared_ptr<void>> fresh(&attached_key<T>, make());
        std::lock_guard hold(rt.attached_lock);
        look();
        if (!found) {
            found = fresh.second;
            rt.attached.push_back(std::move(fresh)); // a few types in all
        }
    }
    return std::static_pointer_cast<T>(std::move(found));
}

/// From now on that one is the runtime's T.
template <class T> void attach(runtime_state& rt, std::shared_ptr<T> fresh) {
    attached<T>(rt, [&] { return fresh; });
    std::shared_ptr<void> old = std::move(fresh); // destroyed outside the lock
    std::lock_guard hold(rt.attached_lock);
    for (auto& a : rt.attached)
        if (a.first == &attached_key<T>) a.second.swap(old);
}

} // namespace mpg::sched
