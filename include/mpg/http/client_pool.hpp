// The client's idle connections.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/http/link.hpp>
#include <mpg/sync/mutex.hpp>
#include <mpg/sync/semaphore.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mpg::http::detail {

/// By address, last in, first out. What has expired is found when its address is asked for next.
class client_pool {
  public:
    client_pool(std::size_t most_for_one, base::nanos lifetime)
        : most_for_one_(most_for_one)
        , lifetime_(lifetime) {}

    /// A connection that seems to be alive, or null.
    std::unique_ptr<link> get(const std::string& address) {
        std::vector<idle> gone; // closed after the lock is released
        std::lock_guard lock(mutex_);
        const auto at = links_.find(address);
        if (at == links_.end()) return nullptr;
        const base::nanos now = base::now();
        std::unique_ptr<link> found;
        while (!found && !at->second.empty()) {
            idle& last = at->second.back();
            if (now - last.since < lifetime_ && last.what->is_quiet())
                found = std::move(last.what);
            else
                gone.push_back(std::move(last));
            at->second.pop_back();
        }
        if (at->second.empty()) links_.erase(at);
        return found;
    }
    void put(const std::string& address, std::unique_ptr<link> l) {
        idle fresh{std::move(l), base::now()};
        std::lock_guard lock(mutex_);
        std::vector<idle>& all = links_[address];
        if (all.size() >= most_for_one_) {
            if (all.empty()) return;
            std::rotate(all.begin(), all.begin() + 1, all.end());
            std::swap(all.back(), fresh); // the oldest one goes
            return;
        }
        all.push_back(std::move(fresh));
    }
    /// How many connections to an address may exist at once; null: any number.
    std::shared_ptr<semaphore> places(const std::string& address, std::size_t most) {
        if (most == 0) return nullptr;
        std::lock_guard lock(mutex_);
        std::weak_ptr<semaphore>& known = places_[address];
        std::shared_ptr<semaphore> s = known.lock();
        if (!s) {
            s = std::make_shared<semaphore>(static_cast<std::ptrdiff_t>(most));
            known = s;
            std::erase_if(places_, [&](const auto& p) { return p.second.expired(); });
        }
        return s;
    }
    void clear() {
        std::unordered_map<std::string, std::vector<idle>> gone;
        std::lock_guard lock(mutex_);
        gone.swap(links_);
    }

  private:
    struct idle {
        std::unique_ptr<link> what;
        base::nanos since;
    };
    const std::size_t most_for_one_;
    const base::nanos lifetime_;
    mutex mutex_;
    std::unordered_map<std::string, std::vector<idle>> links_;         // guarded by mutex_
    std::unordered_map<std::string, std::weak_ptr<semaphore>> places_; // guarded by mutex_
};

} // namespace mpg::http::detail
