//! Policy documents to compiled zone policy to decision with explanation.
