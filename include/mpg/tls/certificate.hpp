// Certificates with their private keys: what one shows to the other side.
#pragma once

#include <mpg/base/spinlock.hpp>
#include <mpg/io/result.hpp>
#include <mpg/tls/error.hpp>
#include <mpg/tls/handles.hpp>
#include <mpg/tls/pem.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace mpg::tls {

namespace detail {

struct identity {
    x509_ptr leaf;
    chain_ptr chain; // without the leaf
    key_ptr key;

    /// Whether the leaf is for that name or address.
    bool is_for(std::string_view name) const noexcept {
        return X509_check_host(leaf.get(), name.data(), name.size(), 0, nullptr) == 1;
    }
};

} // namespace detail

/// A certificate, the chain above it, and its private key. A handle: copies are the same, and it does not
/// change.
class certificate {
  public:
    /// Of PEM texts: the certificate itself first, then what has signed it, without the root. The key may be
    /// encrypted. Fails with OpenSSL's reason, also when the key is not the certificate's.
    static result<certificate> from_pem(std::string_view chain, std::string_view key,
                                        std::string_view password = {}) {
        auto certificates = detail::parse_certificates(chain);
        if (!certificates) return unexpected(certificates.error());
        auto k = detail::parse_key(key, password);
        if (!k) return unexpected(k.error());
        auto made = std::make_shared<detail::identity>();
        made->chain.reset(sk_X509_new_null());
        if (!made->chain) throw std::bad_alloc();
        made->key = std::move(*k);
        ERR_clear_error();
        if (X509_check_private_key((*certificates)[0].get(), made->key.get()) != 1)
            return unexpected(detail::take_error());
        for (detail::x509_ptr& c : *certificates) {
            if (!made->leaf) {
                made->leaf = std::move(c);
            } else {
                if (sk_X509_push(made->chain.get(), c.get()) == 0) throw std::bad_alloc();
                (void)c.release();
            }
        }
        return certificate(std::move(made));
    }
    /// Of PEM files; one file may hold both. Suspends.
    static result<certificate> from_files(std::string_view chain_file, std::string_view key_file,
                                          std::string_view password = {}) {
        const auto chain = detail::read_file(chain_file);
        if (!chain) return unexpected(chain.error());
        const auto key = detail::read_file(key_file);
        if (!key) return unexpected(key.error());
        return from_pem(*chain, *key, password);
    }

    /// OpenSSL's object; it stays ours.
    X509* native_handle() const noexcept { return identity_->leaf.get(); }
    friend bool operator==(const certificate&, const certificate&) = default;

    const detail::identity& get() const noexcept { return *identity_; }

  private:
    explicit certificate(std::shared_ptr<const detail::identity> i) noexcept
        : identity_(std::move(i)) {}
    std::shared_ptr<const detail::identity> identity_;
};

/// Where a configuration finds its certificate when a handshake needs it: put another one in, and handshakes
/// from then on show that, while connections go on with what they have shown. A handle: copies are the same
/// place. Anybody may call anything at any time.
class certificate_source {
  public:
    /// A certificate is a source as it stands.
    certificate_source(certificate c) // NOLINT: implicit on purpose
        : state_(std::make_shared<state>(std::move(c))) {}
    /// As certificate::from_files; remembers the names, for reload. Suspends.
    static result<certificate_source> from_files(std::string chain_file, std::string key_file,
                                                 std::string password = {}) {
        auto c = certificate::from_files(chain_file, key_file, password);
        if (!c) return unexpected(c.error());
        certificate_source s(std::move(*c));
        s.state_->chain_file = std::move(chain_file);
        s.state_->key_file = std::move(key_file);
        s.state_->password = std::move(password);
        return s;
    }

    certificate get() const noexcept {
        state_->lock.lock();
        certificate c = state_->current;
        state_->lock.unlock();
        return c;
    }
    void set(certificate c) noexcept {
        state_->lock.lock();
        std::swap(state_->current, c); // the old one goes after the lock
        state_->lock.unlock();
    }
    /// Reads the files again. When that fails, what was there stays. Suspends. Without files:
    /// std::errc::invalid_argument.
    std::error_code reload() {
        if (state_->chain_file.empty()) return std::make_error_code(std::errc::invalid_argument);
        auto c = certificate::from_files(state_->chain_file, state_->key_file, state_->password);
        if (!c) return c.error();
        set(std::move(*c));
        return {};
    }

  private:
    struct state {
        explicit state(certificate c) noexcept
            : current(std::move(c)) {}
        base::spinlock lock;
        certificate current;                        // guarded by lock
        std::string chain_file, key_file, password; // not changed
    };
    std::shared_ptr<state> state_;
};

} // namespace mpg::tls
