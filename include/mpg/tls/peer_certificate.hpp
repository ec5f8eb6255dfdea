// The other side's certificate.
#pragma once

#include <mpg/tls/handles.hpp>
#include <mpg/tls/pem.hpp>

#include <openssl/evp.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace mpg::tls {

/// A certificate to look at; empty when the peer has shown none. A handle.
class peer_certificate {
  public:
    peer_certificate() noexcept = default;
    explicit peer_certificate(detail::x509_ptr x)
        : x509_(std::move(x)) {}

    explicit operator bool() const noexcept { return x509_ != nullptr; }

    // Precondition of all that follow: not empty.

    /// "CN=example.org,O=Example": the form of RFC 2253.
    std::string subject() const { return name(X509_get_subject_name(x509_.get())); }
    std::string issuer() const { return name(X509_get_issuer_name(x509_.get())); }
    /// The names for which it was issued.
    std::vector<std::string> dns_names() const {
        std::vector<std::string> all;
        auto* names = static_cast<GENERAL_NAMES*>(
            X509_get_ext_d2i(x509_.get(), NID_subject_alt_name, nullptr, nullptr));
        for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
            int type = 0;
            void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
            if (type != GEN_DNS) continue;
            const auto* text = static_cast<const ASN1_IA5STRING*>(value);
            all.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                             static_cast<std::size_t>(ASN1_STRING_length(text)));
        }
        GENERAL_NAMES_free(names);
        return all;
    }
    std::chrono::system_clock::time_point not_before() const {
        return time(X509_get0_notBefore(x509_.get()));
    }
    std::chrono::system_clock::time_point not_after() const { return time(X509_get0_notAfter(x509_.get())); }
    /// Of all of it: to recognise it again.
    std::array<std::byte, 32> sha256() const noexcept {
        std::array<std::byte, 32> digest{};
        unsigned n = 0;
        X509_digest(x509_.get(), EVP_sha256(), reinterpret_cast<unsigned char*>(digest.data()), &n);
        return digest;
    }
    std::string pem() const {
        return detail::written([this](BIO* out) { PEM_write_bio_X509(out, x509_.get()); });
    }
    /// OpenSSL's object; it stays ours.
    X509* native_handle() const noexcept { return x509_.get(); }

  private:
    static std::string name(const X509_NAME* n) {
        return detail::written(
            [n](BIO* out) { X509_NAME_print_ex(out, n, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB); });
    }
    static std::chrono::system_clock::time_point time(const ASN1_TIME* t) {
        std::tm parts{};
        if (ASN1_TIME_to_tm(t, &parts) != 1) return {};
        return std::chrono::system_clock::from_time_t(::timegm(&parts));
    }
    std::shared_ptr<X509> x509_;
};

} // namespace mpg::tls
