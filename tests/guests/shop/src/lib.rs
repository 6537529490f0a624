//! The provider of the two composed guests: carts, which are resources, and a stock that is the host's.

#![no_std]
extern crate alloc;

#[path = "../../common/bare.rs"]
mod bare;

use alloc::{string::String, vec::Vec};
use core::cell::RefCell;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

wit_bindgen::generate!({ world: "shop", path: "wit", std_feature });

use exports::perdure::compose::store::{Cart, Failure, Guest, GuestCart, Item};

static ALIVE: AtomicU32 = AtomicU32::new(0);

struct Shop;

struct Basket {
    owner: String,
    items: RefCell<Vec<(Item, u32)>>,
}

impl Drop for Basket {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Relaxed);
    }
}

impl GuestCart for Basket {
    fn new(owner: String) -> Self {
        ALIVE.fetch_add(1, Relaxed);
        Basket { owner, items: RefCell::new(Vec::new()) }
    }

    fn add(&self, item: Item, count: u32) -> Result<u32, Failure> {
        let left = stock(&item.name).checked_sub(count).ok_or(Failure::SoldOut)?;
        self.items.borrow_mut().push((item, count));
        Ok(left)
    }

    fn owner(&self) -> String {
        self.owner.clone()
    }

    fn total(&self) -> Result<u64, Failure> {
        let items = self.items.borrow();
        if items.is_empty() {
            return Err(Failure::Empty);
        }
        Ok(items.iter().map(|(item, count)| item.price * u64::from(*count)).sum())
    }

    fn items(&self) -> Vec<(Item, u32)> {
        self.items.borrow().clone()
    }

    fn merge(a: Cart, b: Cart) -> Cart {
        let made = Basket::new(a.get::<Basket>().owner.clone());
        for cart in [&a, &b] {
            made.items.borrow_mut().extend(cart.get::<Basket>().items.borrow().iter().cloned());
        }
        Cart::new(made)
    }
}

impl Guest for Shop {
    type Cart = Basket;

    fn alive() -> u32 {
        ALIVE.load(Relaxed)
    }
}

export!(Shop);
