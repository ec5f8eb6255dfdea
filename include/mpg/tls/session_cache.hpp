// A client's sessions, to be resumed.
#pragma once

#include <mpg/tls/handles.hpp>

#include <cstddef>
#include <iterator>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace mpg::tls::detail {

/// The latest ones, by server. Called from inside OpenSSL, so nothing here suspends: a std::mutex, held for a
/// short search.
class session_cache {
  public:
    explicit session_cache(std::size_t most)
        : most_(most) {}

    bool keeps_any() const noexcept { return most_ != 0; }
    void put(std::string_view server, session_ptr s) {
        std::list<entry> fresh, gone;
        fresh.push_back({std::string(server), std::move(s)});
        const std::lock_guard lock(mutex_);
        all_.splice(all_.begin(), fresh);
        std::size_t same = 0;
        for (auto i = all_.begin(); i != all_.end();) {
            const auto here = i++;
            if (here->server == server && ++same > most_for_one) gone.splice(gone.end(), all_, here);
        }
        while (all_.size() > most_) gone.splice(gone.end(), all_, std::prev(all_.end()));
    }
    /// The latest one for that server, or null. A TLS 1.3 ticket is given out once only: used twice, it would
    /// let an observer tell that both connections are the same client's (RFC 8446, C.4).
    session_ptr take(std::string_view server) {
        std::list<entry> gone;
        const std::lock_guard lock(mutex_);
        for (auto i = all_.begin(); i != all_.end();) {
            const auto here = i++;
            if (here->server != server) continue;
            if (SSL_SESSION_is_resumable(here->session.get()) != 1) {
                gone.splice(gone.end(), all_, here);
                continue;
            }
            if (SSL_SESSION_get_protocol_version(here->session.get()) >= TLS1_3_VERSION) {
                gone.splice(gone.end(), all_, here);
                return std::move(here->session);
            }
            SSL_SESSION_up_ref(here->session.get());
            return session_ptr(here->session.get());
        }
        return nullptr;
    }

  private:
    struct entry {
        std::string server;
        session_ptr session;
    };
    static constexpr std::size_t most_for_one = 4;

    const std::size_t most_;
    std::mutex mutex_;
    std::list<entry> all_; // guarded by mutex_; the latest one first
};

} // namespace mpg::tls::detail
