//! Build contexts of every kind as read-only trees
