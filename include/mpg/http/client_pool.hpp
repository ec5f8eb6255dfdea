// The client's idle connections.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/chan/after_func.hpp>
#include <mpg/http/link.hpp>
#include <mpg/sync/mutex.hpp>
#include <mpg/sync/semaphore.hpp>

#include <chrono>
#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mpg::http::detail {

/// By address, last in, first out. What has expired is closed by a timer while there is a runtime, and else when any address
/// is asked for or given to next.
class client_pool final : public std::enable_shared_from_this<client_pool> {
  public:
    client_pool(std::size_t most_for_one, std::size_t most, base::nanos lifetime)
        : most_for_one_(most_for_one)
        , most_(most)
        , lifetime_(lifetime) {}
    ~client_pool() {
        if (sweeper_) sweeper_->stop();
    }

    /// A connection that seems to be alive, or null.
    std::unique_ptr<link> get(const std::string& address) {
        list gone; // closed after the lock is released
        std::lock_guard lock(mutex_);
        expire(gone);
        std::unique_ptr<link> found;
        for (auto at = by_address_.find(address); !found && at != by_address_.end();
             at = by_address_.find(address)) {
            const list::iterator last = at->second.back();
            if (last->what->is_quiet()) found = std::move(last->what);
            remove(last, gone);
        }
        return found;
    }
    void put(const std::string& address, std::unique_ptr<link> l) {
        list gone, fresh;
        fresh.push_back({std::move(l), base::now(), address});
        std::lock_guard lock(mutex_);
        expire(gone);
        if (most_for_one_ == 0 || most_ == 0) return;
        if (const auto at = by_address_.find(address);
            at != by_address_.end() && at->second.size() >= most_for_one_)
            remove(at->second.front(), gone);
        if (all_.size() >= most_) remove(all_.begin(), gone);
        const auto at = by_address_.try_emplace(address).first;
        try {
            at->second.push_back(fresh.begin());
        } catch (...) {
            if (at->second.empty()) by_address_.erase(at);
            throw;
        }
        all_.splice(all_.end(), fresh);
        sweep_later();
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
        list gone;
        std::lock_guard lock(mutex_);
        by_address_.clear();
        gone.swap(all_);
    }

  private:
    struct idle {
        std::unique_ptr<link> what;
        base::nanos since;
        std::string address;
    };
    using list = std::list<idle>;

    /// The timer's.
    void sweep() {
        list gone;
        std::lock_guard lock(mutex_);
        sweep_at_ = 0;
        expire(gone);
        sweep_later();
    }

    // With the lock held:

    void expire(list& gone) {
        const base::nanos now = base::now();
        while (!all_.empty() && now - all_.front().since >= lifetime_) remove(all_.begin(), gone);
    }
    /// Sees to it that what is there does not outlive its time, when nobody comes any more. A timer that is long overdue went
    /// with its runtime.
    void sweep_later() noexcept {
        const base::nanos now = base::now();
        if (all_.empty() || lifetime_ == base::never || (sweep_at_ && now - sweep_at_ < 1'000'000'000)) return;
        const base::nanos left = lifetime_ - (now - all_.front().since);
        try {
            sweeper_.emplace(after_func(std::chrono::nanoseconds(left), [pool = weak_from_this()] {
                if (const auto p = pool.lock()) p->sweep();
            }));
            sweep_at_ = now + left;
        } catch (const std::logic_error&) { // no runtime
        } catch (const std::bad_alloc&) {
        }
    }
    void remove(list::iterator i, list& gone) {
        const auto at = by_address_.find(i->address);
        std::erase(at->second, i);
        if (at->second.empty()) by_address_.erase(at);
        gone.splice(gone.end(), all_, i);
    }

    const std::size_t most_for_one_, most_;
    const base::nanos lifetime_;
    mutex mutex_;
    list all_;                                                                // oldest first; guarded by mutex_
    std::unordered_map<std::string, std::vector<list::iterator>> by_address_; // likewise; guarded by mutex_
    std::unordered_map<std::string, std::weak_ptr<semaphore>> places_;        // guarded by mutex_
    std::optional<delayed_func> sweeper_;                                     // guarded by mutex_
    base::nanos sweep_at_ = 0;                                                // 0: never; guarded by mutex_
};

} // namespace mpg::http::detail
