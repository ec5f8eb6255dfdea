// The certificates that are trusted.
#pragma once

#include <mpg/io/result.hpp>
#include <mpg/tls/error.hpp>
#include <mpg/tls/handles.hpp>
#include <mpg/tls/pem.hpp>

#include <memory>
#include <new>
#include <string_view>
#include <utility>

namespace mpg::tls {

/// Root certificates: who is signed by one of them, directly or not, is believed. A handle: copies are the
/// same, and it does not change.
class roots {
  public:
    /// The system's: those of $SSL_CERT_FILE and $SSL_CERT_DIR, or else where OpenSSL was told to look when
    /// it was built. Files of the directory are read when a handshake needs them.
    static result<roots> system() {
        detail::store_ptr s = fresh();
        ERR_clear_error();
        if (X509_STORE_set_default_paths(s.get()) != 1) return unexpected(detail::take_error());
        ERR_clear_error();
        return roots(std::move(s));
    }
    /// Of a PEM text with at least one certificate.
    static result<roots> from_pem(std::string_view pem) {
        auto certificates = detail::parse_certificates(pem);
        if (!certificates) return unexpected(certificates.error());
        detail::store_ptr s = fresh();
        ERR_clear_error();
        for (const detail::x509_ptr& c : *certificates)
            if (X509_STORE_add_cert(s.get(), c.get()) != 1) return unexpected(detail::take_error());
        return roots(std::move(s));
    }
    /// Suspends.
    static result<roots> from_file(std::string_view path) {
        const auto pem = detail::read_file(path);
        if (!pem) return unexpected(pem.error());
        return from_pem(*pem);
    }

    /// OpenSSL's object; it stays ours.
    X509_STORE* native_handle() const noexcept { return store_.get(); }

  private:
    explicit roots(detail::store_ptr s)
        : store_(std::move(s)) {}
    static detail::store_ptr fresh() {
        detail::store_ptr s(X509_STORE_new());
        if (!s) throw std::bad_alloc();
        return s;
    }
    std::shared_ptr<X509_STORE> store_;
};

} // namespace mpg::tls
