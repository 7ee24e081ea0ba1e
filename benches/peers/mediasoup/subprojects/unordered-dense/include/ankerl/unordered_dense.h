// The names that mediasoup uses of ankerl::unordered_dense, on Abseil's open-addressing tables: that library is header-only and in
// no package registry. Both are fast flat tables; mediasoup looks into a few small ones per packet (SSRC to producer, producer to consumers).
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/hash/hash.h>
#include <functional>
#include <iterator>

namespace ankerl::unordered_dense
{
	template<typename T, typename Enable = void>
	struct hash : absl::Hash<T>
	{
	};

	// Abseil's erase() does not say what comes next.
	template<typename Table>
	struct Erasing : Table
	{
		using Table::Table;

		typename Table::iterator erase(typename Table::iterator position)
		{
			const auto next = std::next(position);

			Table::erase(position);

			return next;
		}

		template<typename Key>
		size_t erase(const Key& key)
		{
			return Table::erase(key);
		}
	};

	template<typename K, typename V, typename H = hash<K>, typename E = std::equal_to<K>>
	using map = Erasing<absl::flat_hash_map<K, V, H, E>>;

	template<typename K, typename H = hash<K>, typename E = std::equal_to<K>>
	using set = Erasing<absl::flat_hash_set<K, H, E>>;
} // namespace ankerl::unordered_dense
